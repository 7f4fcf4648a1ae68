"""Shard files: Arrow IPC, one row an item, in record batches of a fixed number of rows.

sparse: `neighbors: large_list<uint32>` (rows, best score first, ties by ascending row), `scores: large_list<float32>`.
dense:  `scores: fixed_size_list<float32>[N]` (position = row; a missing pair is null over +0.0) and the best
        min(256, N-1) of each row as `top: fixed_size_list<uint32>`, `top_scores: fixed_size_list<float32>`.
"""

from __future__ import annotations

import mmap
import os
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.shards.errors import CorruptFile
from simshard.shards.manifest import Encoding, FileInfo, HashedFile, Manifest, ShardInfo
from simshard.shards.query import Rows, best
from simshard.shards.readahead import advise
from simshard.shards.tops import DenseBatch, Top, top_size

BATCH_ROWS = 256
MISSING = np.float32(np.nan)
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_UNKNOWN = 0xFFFFFFFF
_STAYS = 60.0  # seconds that pages which were read are taken to stay in memory
_WINDOW = 64 << 20  # bytes of whole rows that are asked for at a time


class ShardWriter:
    """Writes one shard, batch by batch, in row order; memory stays at about one batch."""

    def __init__(self, path: Path, encoding: Encoding, items: int, row_start: int) -> None:
        self.row = self.row_start = row_start
        self.entries = 0
        self.score_abs_max = 0.0
        self._least = _UNKNOWN
        self._items = items
        if encoding == "dense":
            top = top_size(items)
            kinds = {"scores": (pa.float32(), items), "top": (pa.uint32(), top), "top_scores": (pa.float32(), top)}
            fields = {name: pa.list_(kind, size) for name, (kind, size) in kinds.items()}
        else:
            fields = {"neighbors": pa.large_list(pa.uint32()), "scores": pa.large_list(pa.float32())}
        self._sink = HashedFile(path)
        self._schema = pa.schema(fields.items())
        self._writer = pa.ipc.new_file(pa.PythonFile(self._sink, mode="w"), self._schema)

    def write_dense(self, batch: DenseBatch) -> None:
        """Append a batch."""
        self._count(batch.scores, int(np.count_nonzero(batch.present)))
        self._write(
            len(batch.scores),
            _fixed_list(batch.scores, batch.present),
            _fixed_list(batch.top, batch.top_used),
            _fixed_list(batch.top_scores, batch.top_used),
        )

    def write_sparse(self, offsets: NDArray[np.int64], neighbors: Rows, scores: NDArray[np.float32]) -> None:
        """Append a batch: row i has entries offsets[i]:offsets[i+1], best score first, ties by ascending row."""
        self._count(scores, len(neighbors))
        bounds = pa.array(offsets, pa.int64())
        self._write(
            len(offsets) - 1,
            pa.LargeListArray.from_arrays(bounds, pa.array(neighbors)),
            pa.LargeListArray.from_arrays(bounds, pa.array(scores)),
        )

    def _count(self, scores: NDArray[np.float32], entries: int) -> None:
        self.entries += entries
        if scores.size:
            self.score_abs_max = max(self.score_abs_max, float(scores.max()), -float(scores.min()))
        for row in np.atleast_2d(scores):  # a copy of a batch would be large
            # Without their sign, floats are in the order of their bits; zeros become the largest number.
            bits = (row.view(np.uint32) & _MAGNITUDE) - np.uint32(1)
            self._least = min(self._least, int(bits.min(initial=_UNKNOWN)))

    def _write(self, rows: int, *columns: pa.Array) -> None:
        self._writer.write_batch(pa.record_batch(list(columns), schema=self._schema))
        self.row += rows

    def close(self) -> ShardInfo:
        """Finish the file, forced to disk; what the manifest says of it."""
        self._writer.close()
        self._sink.close()
        info: FileInfo = self._sink.info()
        least = 0.0 if self._least == _UNKNOWN else float(np.uint32(self._least + 1).view(np.float32))
        return ShardInfo(info.file, info.bytes, info.checksum, self.row_start, self.row, self.entries, least)


def _fixed_list(values: NDArray[Any], used: NDArray[np.bool_]) -> pa.FixedSizeListArray:
    nulls = used.size - int(np.count_nonzero(used))
    validity = None if not nulls else pa.py_buffer(np.packbits(used, bitorder="little"))
    kind = pa.from_numpy_dtype(values.dtype)
    flat = pa.Array.from_buffers(kind, values.size, [validity, pa.py_buffer(values)], null_count=nulls)
    return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])


class ShardReader:
    """One shard, memory-mapped: its pages are shared with every process that maps the same file.

    Raises CorruptFile where the file is not the shard that the manifest describes. Checksums are for the caller.
    window: how many rows to ask `will_need` for at a time.
    """

    def __init__(self, folder: Path, manifest: Manifest, index: int) -> None:
        info = manifest.shards[index]
        path = folder / info.file
        self.row_start, self.row_stop = info.row_start, info.row_stop
        self.items, self.dense = manifest.items, manifest.encoding == "dense"
        self._batch_rows, self._top_size = manifest.batch_rows, top_size(manifest.items)
        self.score_abs_max = manifest.score_abs_max
        self._asked, self._asked_until = bytearray(), 0.0
        self.window = max(_WINDOW * (info.row_stop - info.row_start) // max(info.bytes, 1), 1)
        try:
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            self._map = mmap.mmap(self._file, 0, access=mmap.ACCESS_READ)
            names = ("scores", "top", "top_scores") if self.dense else ("neighbors", "scores")
            self._places = self._locate(names)
        except (pa.ArrowInvalid, OSError, ValueError, KeyError) as error:
            raise CorruptFile(f"{path}: not a shard of this snapshot ({error})") from error

    def _locate(self, names: tuple[str, ...]) -> NDArray[np.int64]:
        """Byte offsets of every batch's buffers in the map, int64 (batches, 2 a column): values with their validity
        (dense, -1 where all are valid) or offsets with values (sparse). Plain numbers, so a million rows cost little.
        """
        base = pa.py_buffer(self._map)
        file = pa.ipc.open_file(base)
        rows = 0
        places = []
        for i in range(file.num_record_batches):
            batch = file.get_batch(i)
            if len(batch) != min(self._batch_rows, self.row_stop - self.row_start - rows):
                raise ValueError(f"batch {i} has {len(batch)} rows")
            rows += len(batch)
            place: list[int] = []
            for name in names:
                column = batch.column(name)
                if self.dense:
                    size = self.items if name == "scores" else top_size(self.items)
                    if column.type.list_size != size:
                        raise ValueError(f"{name} holds {column.type.list_size} a row")
                    validity, values = column.values.buffers()
                    place += (values.address, validity.address if validity else -1)
                else:
                    _, offsets, _, values = column.buffers()
                    place += (offsets.address, values.address if values else base.address)
            places.append([p if p < 0 else p - base.address for p in place])
        if rows != self.row_stop - self.row_start:
            raise ValueError(f"{rows} rows where {self.row_stop - self.row_start} are expected")
        return np.array(places, dtype=np.int64)

    def _at(self, row: int) -> tuple[int, list[int]]:
        """The place of a row of this shard in its record batch, and the batch's line of `_places`."""
        batch, within = divmod(row - self.row_start, self._batch_rows)
        return within, self._places[batch].tolist()

    def _used(self, validity_at: int, first: int, size: int) -> NDArray[np.bool_]:
        byte, bit = divmod(first, 8)
        packed = np.frombuffer(self._map, np.uint8, (bit + size + 7) // 8, validity_at + byte)
        return np.unpackbits(packed, bitorder="little")[bit : bit + size].view(np.bool_)

    def will_need(self, rows: Iterable[int]) -> None:
        """Have the pages of whole rows of this shard read, all at once, where they may not be in memory.

        To ask takes a tenth as long as to add a row up, so that a row is asked for once within some time.
        """
        now = time.monotonic()
        if now > self._asked_until:
            self._asked, self._asked_until = bytearray(self.row_stop - self.row_start), now + _STAYS
        for row in rows:
            if self._asked[row - self.row_start]:
                continue
            self._asked[row - self.row_start] = 1
            if self.dense:
                within, (values_at, validity_at, *_) = self._at(row)
                advise(self._file, values_at + 4 * within * self.items, 4 * self.items)
                if validity_at >= 0:
                    advise(self._file, validity_at + within * self.items // 8, self.items // 8 + 2)
            else:
                within, (offsets_at, neighbors_at, _, scores_at) = self._at(row)
                start, stop = np.frombuffer(self._map, np.int64, 2, offsets_at + 8 * within).tolist()
                for values_at in (neighbors_at, scores_at):
                    advise(self._file, values_at + 4 * start, 4 * (stop - start))

    def warm(self, most: int) -> None:
        """Have what answers most questions read, up to so many bytes: the best stored beside each row, or the lists."""
        if not self.dense:
            advise(self._file, 0, most)
            return
        rows = min(self._batch_rows, self.row_stop - self.row_start)
        for rows_at, _, scores_at in self._places[: most // (8 * rows * self._top_size), 2:5].tolist():
            advise(self._file, rows_at, scores_at - rows_at + 4 * rows * self._top_size)

    def full(self, row: int) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None]:
        """A row of a dense shard: scores with all rows, float32 (N,), and which of them are pairs (None: all)."""
        within, (_, validity_at, *_) = self._at(row)
        return self.values(row), None if validity_at < 0 else self._used(validity_at, within * self.items, self.items)

    def values(self, row: int) -> NDArray[np.float32]:
        """The scores alone, float32 (N,): +0.0 where there is no pair."""
        within, (values_at, *_) = self._at(row)
        return np.frombuffer(self._map, np.float32, self.items, values_at + 4 * within * self.items)

    def picked(self, row: int, places: NDArray[np.intp]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Of a row of a dense shard the scores with some rows (C,), float32, and which of them are pairs, bool (C,)."""
        if len(places) * 8 > self.items:
            scores, used = self.full(row)
            return scores.take(places), np.ones(len(places), np.bool_) if used is None else used.take(places)
        within, (_, validity_at, *_) = self._at(row)
        first = within * self.items
        scores = self.values(row).take(places)
        if validity_at < 0:
            return scores, np.ones(len(places), dtype=np.bool_)
        bits = places + first % 8
        packed = np.frombuffer(self._map, np.uint8, (first % 8 + self.items + 7) // 8, validity_at + first // 8)
        return scores, (packed.take(bits >> 3) >> (bits & 7).astype(np.uint8) & 1).view(np.bool_)

    def listed(self, row: int) -> tuple[Rows, NDArray[np.float32]]:
        """A row of a sparse shard: its neighbors with their scores, best first, as views."""
        within, (offsets_at, neighbors_at, _, scores_at) = self._at(row)
        start, stop = np.frombuffer(self._map, np.int64, 2, offsets_at + 8 * within).tolist()
        neighbors = np.frombuffer(self._map, np.uint32, stop - start, neighbors_at + 4 * start)
        return neighbors, np.frombuffer(self._map, np.float32, stop - start, scores_at + 4 * start)

    def top(self, row: int) -> tuple[Rows, NDArray[np.float32], bool]:
        """Best neighbors of a row with their scores, best first, and whether they are all that it has."""
        if not self.dense:
            return *self.listed(row), True
        size = self._top_size
        within, (_, _, rows_at, validity_at, scores_at, _) = self._at(row)
        first = within * size
        count = size if validity_at < 0 else int(self._used(validity_at, first, size).sum())
        rows = np.frombuffer(self._map, np.uint32, count, rows_at + 4 * first)
        scores = np.frombuffer(self._map, np.float32, count, scores_at + 4 * first)
        return rows, scores, count < size or count >= self.items - 1

    def tops(self, rows: Rows, width: int) -> Iterator[tuple[NDArray[np.intp], Top]]:
        """The best `width` of many rows of this shard, a record batch at a time: places in `rows`, and the Top there.

        No more than what is stored beside a dense row.
        """
        batches = (rows - np.uint32(self.row_start)) // np.uint32(self._batch_rows)
        order = np.argsort(batches, kind="stable")
        starts = np.flatnonzero(np.diff(batches[order], prepend=-1))
        runs = np.split(order, starts[1:]) if len(order) else []
        for places in (run[at : at + BATCH_ROWS] for run in runs for at in range(0, len(run), BATCH_ROWS)):
            batch = int(batches[places[0]])
            first = self.row_start + batch * self._batch_rows
            count = min(self._batch_rows, self.row_stop - first)
            of_batch = self._tops_dense if self.dense else self._tops_sparse
            yield places, of_batch(batch, count, rows[places].astype(np.intp) - first, width)

    def _tops_dense(self, batch: int, rows: int, within: NDArray[np.intp], width: int) -> Top:
        size = top_size(self.items)
        rows_at, validity_at, scores_at = self._places[batch, 2:5].tolist()
        shape = (rows, size)
        neighbors = np.frombuffer(self._map, np.uint32, rows * size, rows_at).reshape(shape)[within, :width]
        scores = np.frombuffer(self._map, np.float32, rows * size, scores_at).reshape(shape)[within, :width]
        stored = np.full(len(within), size)
        if validity_at >= 0:
            packed = np.frombuffer(self._map, np.uint8, (rows * size + 7) // 8, validity_at)
            used = np.unpackbits(packed, count=rows * size, bitorder="little").reshape(shape)
            stored = used[within].sum(axis=1, dtype=np.intp)
        complete = ((stored < size) | (stored >= self.items - 1)) & (stored <= width)
        return Top(neighbors, scores, np.minimum(stored, width), complete)

    def _tops_sparse(self, batch: int, rows: int, within: NDArray[np.intp], width: int) -> Top:
        offsets_at, neighbors_at, _, scores_at = self._places[batch].tolist()
        offsets = np.frombuffer(self._map, np.int64, rows + 1, offsets_at)
        lengths = offsets[within + 1] - offsets[within]
        width = min(width, int(lengths.max()))
        stop = int(offsets[-1])
        places = np.minimum(offsets[within][:, None] + np.arange(width), max(stop - 1, 0))
        neighbors = np.frombuffer(self._map, np.uint32, stop, neighbors_at)[places]
        scores = np.frombuffer(self._map, np.float32, stop, scores_at)[places]
        return Top(neighbors, scores, np.minimum(lengths, width), lengths <= width)

    def neighbors(self, row: int) -> tuple[Rows, NDArray[np.float32]]:
        """All neighbors of a row of this shard with their scores, best first, ties by ascending row."""
        if not self.dense:
            return self.listed(row)
        scores, used = self.full(row)
        rows = np.arange(self.items, dtype=np.uint32) if used is None else np.flatnonzero(used).astype(np.uint32)
        order = best(scores[rows], len(rows))
        return rows[order], scores[rows][order]

    def count(self, row: int) -> int:
        """How many neighbors a row of this shard has."""
        if not self.dense:
            return len(self.listed(row)[0])
        return self.items if (used := self.full(row)[1]) is None else int(used.sum())
