"""What is similar to each of many items: arrays in, one Arrow table out, no Python object for a hit."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from simshard.serve.engine.router import nearest
from simshard.serve.engine.table import Table
from simshard.serve.schema.requests import MAX_BULK, BulkOptions
from simshard.serve.schema.values import NO_TEXT, is_text
from simshard.shards.errors import InvalidQuery
from simshard.shards.plain_values import plain_id
from simshard.shards.query import Selection
from simshard.shards.search import Nearest, join_nearest

NPY = "application/x-npy"
_PIECE = 10_000
_PLAIN_PIECE = 100_000  # without a filter no seed takes long

GivenIds = Sequence[Any] | NDArray[np.int64]


def read_ids(body: bytes) -> NDArray[np.int64]:
    """The ids in a .npy file: int64 (M,), in the memory of `body`. Raises InvalidQuery."""
    file = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(file)
    except Exception as error:  # whatever numpy meets in a header that was made to be met
        raise InvalidQuery("body", "not a .npy file") from error
    if len(shape) != 1 or dtype != np.int64:
        raise InvalidQuery("ids", f"an array of one dimension of int64 is needed, not of {len(shape)} of {dtype}")
    if len(body) - file.tell() != 8 * shape[0]:
        raise InvalidQuery("body", f"its header tells of {shape[0]} ids, {len(body) - file.tell()} bytes follow")
    return np.frombuffer(body, np.int64, offset=file.tell())


async def nearest_table(
    table: Table, selection: Selection | None, ids: GivenIds, options: BulkOptions, pool: Executor
) -> pa.Table:
    """The hits of many single seeds (M,), in the order of `ids`.

    One row a hit: id, rank (int32, from 1), neighbor and score (float32); an unknown id has none and is named in the
    schema's metadata, `missing_ids`. With `lists` one row an id, M in all: id, neighbors and scores, null for an
    unknown one. Raises InvalidQuery and ShardUnavailable.
    """
    if len(ids) * options.limit > MAX_BULK:
        raise InvalidQuery("ids", f"{len(ids):,} ids x limit {options.limit}: at most {MAX_BULK:,}")
    loop = asyncio.get_running_loop()
    rows = await loop.run_in_executor(pool, _find, table, ids)
    known = rows >= 0
    seeds = rows[known].astype(np.uint32)
    parts = []
    size = _PLAIN_PIECE if selection is None else _PIECE
    for start in range(0, len(seeds), size):  # between pieces a deadline can end the rest
        parts.append(await nearest(table, seeds[start : start + size], options.limit, selection, pool))

    def assemble() -> pa.Table:
        found = parts[0] if len(parts) == 1 else join_nearest(parts)
        metadata: dict[str, str | bytes] = {"snapshot": table.name}
        if options.lists:
            return _lists(table, rows, found).replace_schema_metadata(metadata)
        columns = {
            "id": table.items.ids.take(pa.array(np.repeat(seeds, found.counts))),
            "rank": _ranks(found.counts),
            "neighbor": table.items.ids.take(pa.array(found.neighbors)),
            "score": found.scores,
        }
        given = ids.tolist() if isinstance(ids, np.ndarray) else ids
        metadata["missing_ids"] = orjson.dumps([plain_id(given[at]) for at in np.flatnonzero(~known).tolist()])
        return pa.table(columns).replace_schema_metadata(metadata)

    return await loop.run_in_executor(pool, assemble)


def _lists(table: Table, rows: NDArray[np.int64], found: Nearest) -> pa.Table:
    """One row for each of `rows` (M,), -1 for an unknown id."""
    unknown = pa.array(rows < 0)
    counts = np.zeros(len(rows), dtype=np.int32)
    counts[rows >= 0] = found.counts
    offsets = pa.array(np.concatenate(([0], np.cumsum(counts, dtype=np.int32)), dtype=np.int32))
    neighbors = table.items.ids.take(pa.array(found.neighbors))
    scores = pa.array(found.scores)
    return pa.table(
        {
            "id": table.items.ids.take(pa.array(rows, mask=rows < 0)),
            "neighbors": pa.ListArray.from_arrays(offsets, neighbors, mask=unknown),
            "scores": pa.ListArray.from_arrays(offsets, scores, mask=unknown),
        }
    )


def _ranks(counts: NDArray[np.intp]) -> NDArray[np.int32]:
    """1, 2, ... for each count, one after another."""
    starts = np.cumsum(counts) - counts
    return (np.arange(1, int(counts.sum()) + 1) - np.repeat(starts, counts)).astype(np.int32)


def _find(table: Table, ids: GivenIds) -> NDArray[np.int64]:
    """Rows of ids, -1 for unknown ones. Raises InvalidQuery for what is no id."""
    if isinstance(ids, np.ndarray):
        return table.items.find(pa.array(ids))
    kinds = set(map(type, ids))
    if not kinds <= {int, str}:
        place = next(i for i, id_ in enumerate(ids) if type(id_) not in (int, str))
        raise InvalidQuery(f"ids[{place}]", "an id is an integer or text")
    for place, id_ in enumerate(ids if str in kinds else ()):
        if isinstance(id_, str) and not is_text(id_):
            raise InvalidQuery(f"ids[{place}]", NO_TEXT)
    return table.items.find_all(ids)
