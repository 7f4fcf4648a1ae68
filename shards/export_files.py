"""A snapshot's pairs and items, streamed into files for other systems."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.shards.errors import StoreError
from simshard.shards.format import ShardReader
from simshard.shards.items import Items
from simshard.shards.manifest import verify_file
from simshard.shards.progress import Progress
from simshard.shards.query import Rows
from simshard.shards.sinks import Format, format_of, parquet_file, replacing, text_file
from simshard.shards.store import Snapshot
from simshard.shards.tops import TOP

_ROW_GROUP = 1 << 19  # pairs
_AT_ONCE = 1 << 16  # pairs that become text
_ITEMS = 1 << 13
_COMMA, _BRACE = b",}"


@dataclass(frozen=True)
class Exported:
    """What was written: bytes of the file, and of the items' file (0 where there is none).

    a, b: int64 (N,), of how many pairs each row's item is `a` or `b`; once: each pair stands for both of its stored
    directions.
    """

    bytes: int
    items_bytes: int
    a: NDArray[np.int64]
    b: NDArray[np.int64]
    once: bool

    @property
    def pairs(self) -> int:
        """How many pairs were written."""
        return int(self.a.sum())


class _Batch(NamedTuple):
    """Stored directions: rows int64 (M,) ascending, neighbors uint32 (M,), scores float32 (M,)."""

    rows: NDArray[np.int64]
    neighbors: Rows
    scores: NDArray[np.float32]


def export(
    snapshot: Snapshot, to: Path, progress: Progress, top: int | None = None, items_to: Path | None = None
) -> Exported:
    """Write the pairs of a snapshot, which the caller holds, and its items, in the formats of the files' names.

    Of an undirected snapshot that stores every pair in both directions, each pair is written once, from its lower row.
    Of any other one, and with `top`, the best so many of each row, stored directions are written as they are.
    Raises StoreError naming the file, CorruptFile for a snapshot that is damaged; then no file has changed.
    """
    if top is not None and top < 1:
        raise StoreError(f"the best {top} of each item cannot be written; ask for 1 or more")
    form, items_form = format_of(to), format_of(items_to or to)
    if items_to is not None and items_to.resolve() == to.resolve():
        raise StoreError(f"{to}: pairs and items need a file each; name another for one of them")
    manifest = snapshot.manifest
    verify_file(snapshot.folder, manifest.items_file)
    items = Items(snapshot.folder)
    entries = sum(shard.entries for shard in manifest.shards)
    once = not manifest.directed and top is None and entries == 2 * manifest.pairs
    a, b = np.zeros((2, len(items)), dtype=np.int64)
    size, items_size = _ROW_GROUP if form.kind == "parquet" else _AT_ONCE, 0
    with ExitStack() as files:
        if items_to is not None:
            file = files.enter_context(replacing(items_to))
            progress.phase("Writing items", "items", len(items))
            _write_items(file, items, items_form, progress)
            items_size = file.stat().st_size
        file = files.enter_context(replacing(to))
        progress.phase("Writing pairs", "pairs", None if top else manifest.pairs if once else entries)
        with _pairs_file(file, items.ids, form) as write:
            for index, info in enumerate(manifest.shards):
                verify_file(snapshot.folder, info)
                for batch in _batches(ShardReader(snapshot.folder, manifest, index), once, top, size):
                    write(batch)
                    np.add.at(a, batch.rows, 1)
                    np.add.at(b, batch.neighbors, 1)
                    progress.advance(len(batch.rows))
        written = file.stat().st_size
    return Exported(written, items_size, a, b, once)


def _batches(reader: ShardReader, once: bool, top: int | None, size: int) -> Iterator[_Batch]:
    """What is to be written of a shard, at most `size` pairs at a time."""
    lists: list[tuple[Rows, NDArray[np.float32]]] = []
    first, waiting = reader.row_start, 0
    for row in range(reader.row_start, reader.row_stop):
        lists.append(_of_row(reader, row, once, top))
        waiting += len(lists[-1][0])
        if waiting >= size or row == reader.row_stop - 1:
            rows = np.repeat(np.arange(first, row + 1), [len(neighbors) for neighbors, _ in lists])
            neighbors = np.concatenate([neighbors for neighbors, _ in lists])
            scores = np.concatenate([scores for _, scores in lists])
            for at in range(0, waiting, size):
                some = slice(at, at + size)
                yield _Batch(rows[some], neighbors[some], scores[some])
            lists, first, waiting = [], row + 1, 0


def _of_row(reader: ShardReader, row: int, once: bool, top: int | None) -> tuple[Rows, NDArray[np.float32]]:
    if once and reader.dense:  # in the order of rows, which takes no sorting
        scores, used = reader.full(row)
        later = np.arange(row + 1, reader.items, dtype=np.uint32)
        if used is not None:
            later = later[used[row + 1 :]]
        return later, scores[later]
    if reader.dense and top is not None and top <= TOP:
        neighbors, scores, _ = reader.top(row)
    else:
        neighbors, scores = reader.neighbors(row)
    if once:
        after = neighbors > row
        return neighbors[after], scores[after]
    return neighbors[:top], scores[:top]


@contextmanager
def _pairs_file(path: Path, ids: pa.Array, form: Format) -> Iterator[Callable[[_Batch], None]]:
    """A function that appends pairs with the ids of their rows."""
    if form.kind != "parquet":
        texts = _Texts(ids, form.separator)
        with text_file(path, form) as write:
            yield lambda batch: write(texts.of(batch))
        return
    schema = pa.schema({"a": ids.type, "b": ids.type, "score": pa.float32()})
    with parquet_file(path, schema, ["a", "b"]) as write:

        def append(batch: _Batch) -> None:
            columns = [ids.take(pa.array(batch.rows)), ids.take(pa.array(batch.neighbors)), pa.array(batch.scores)]
            write(pa.table(columns, schema=schema))

        yield append


class _Texts:
    """JSON objects of pairs, made of parts: up to the second id, up to the score, and the score."""

    def __init__(self, ids: pa.Array, separator: str) -> None:
        self._ids, self._separator = ids, separator
        parts = [_json_ids(ids.slice(at, _AT_ONCE)) for at in range(0, len(ids), _AT_ONCE)]
        self._seconds = pc.binary_join_element_wise(pa.concat_arrays(parts), ',"score":', "")

    def of(self, batch: _Batch) -> pa.Buffer:
        """The text of some pairs."""
        first, last = int(batch.rows[0]), int(batch.rows[-1])
        firsts = _json_ids(self._ids.slice(first, last - first + 1))
        firsts = pc.binary_join_element_wise(f'{self._separator}{{"a":', firsts, ',"b":', "")
        records = pc.binary_join_element_wise(
            firsts.take(pa.array(batch.rows - first)),
            self._seconds.take(pa.array(batch.neighbors)),
            _json_scores(batch.scores),
            "",
        )
        size = int(np.frombuffer(records.buffers()[1], np.int32)[len(records)])
        return records.buffers()[2].slice(0, size)


def _json_ids(ids: pa.Array) -> pa.StringArray:
    if pa.types.is_int64(ids.type):
        return ids.cast(pa.string())
    return pa.array([orjson.dumps(id_).decode() for id_ in ids.to_pylist()], pa.string())


def _json_scores(scores: NDArray[np.float32]) -> pa.StringArray:
    """The shortest texts of float32 numbers, each with the brace that ends its object."""
    text = np.frombuffer(orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY), np.uint8).copy()
    text[-1] = _COMMA  # for the bracket
    commas = np.flatnonzero(text == _COMMA)
    text[commas] = _BRACE
    offsets = np.concatenate(([1], commas + 1)).astype(np.int32)
    return pa.StringArray.from_buffers(len(scores), pa.py_buffer(offsets), pa.py_buffer(text))


def _write_items(path: Path, items: Items, form: Format, progress: Progress) -> None:
    """The item table. There is a title always: else an attribute called name would be read as one."""
    titles = items.columns.get("title", pa.nulls(len(items), pa.string()))
    table = pa.table({"id": items.ids, "title": titles} | items.columns)
    slices = (table.slice(at, _ITEMS) for at in range(0, len(table), _ITEMS))
    if form.kind == "parquet":
        with parquet_file(path, table.schema, []) as write:
            for some in slices:
                write(some)
                progress.advance(len(some))
        return
    separator = form.separator.encode()
    with text_file(path, form) as write:
        for some in slices:
            write(b"".join(separator + orjson.dumps(item) for item in some.to_pylist()))
            progress.advance(len(some))
