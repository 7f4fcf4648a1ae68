"""What is similar to each of many items: arrays in, one Arrow table out, no Python object for a hit."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
from numpy.typing import NDArray

from simshard.serve.requests import MAX_BULK, NO_TEXT, BulkRequest, is_text
from simshard.serve.router import Table, nearest
from simshard.serve.selections import Selections
from simshard.shards.errors import InvalidQuery
from simshard.shards.items import plain_id
from simshard.shards.search import join_nearest

_PIECE = 10_000


async def nearest_table(table: Table, selections: Selections, request: BulkRequest, pool: Executor) -> pa.Table:
    """The hits of many single seeds: a table of id, rank (int32, from 1), neighbor and score (float32).

    Rows stand in the order of `ids`; an unknown one has none and is named in the schema's metadata, `missing_ids`.
    Raises InvalidQuery and ShardUnavailable.
    """
    if len(request.ids) * request.limit > MAX_BULK:
        raise InvalidQuery("ids", f"{len(request.ids):,} ids x limit {request.limit}: at most {MAX_BULK:,}")
    loop = asyncio.get_running_loop()
    text = selections.canonical(request.filter)
    rows = await loop.run_in_executor(pool, _find, table, request.ids)
    selection = await selections.selection(table, selections.hidden, text)
    known = rows >= 0
    seeds = rows[known].astype(np.uint32)
    parts = []
    for start in range(0, len(seeds), _PIECE):  # between pieces a deadline can end the rest
        parts.append(await nearest(table, seeds[start : start + _PIECE], request.limit, selection, pool))

    def assemble() -> pa.Table:
        found = join_nearest(parts)
        columns = {
            "id": table.items.ids.take(pa.array(np.repeat(seeds, found.counts))),
            "rank": _ranks(found.counts),
            "neighbor": table.items.ids.take(pa.array(found.neighbors)),
            "score": found.scores,
        }
        missing = orjson.dumps([plain_id(request.ids[place]) for place in np.flatnonzero(~known).tolist()])
        return pa.table(columns).replace_schema_metadata({"snapshot": table.name, "missing_ids": missing})

    return await loop.run_in_executor(pool, assemble)


def _ranks(counts: NDArray[np.intp]) -> NDArray[np.int32]:
    """1, 2, ... for each count, one after another."""
    starts = np.cumsum(counts) - counts
    return (np.arange(1, int(counts.sum()) + 1) - np.repeat(starts, counts)).astype(np.int32)


def _find(table: Table, ids: list[Any]) -> NDArray[np.int64]:
    """Rows of ids, -1 for unknown ones. Raises InvalidQuery for what is no id."""
    kinds = set(map(type, ids))
    if not kinds <= {int, str}:
        place = next(i for i, id_ in enumerate(ids) if type(id_) not in (int, str))
        raise InvalidQuery(f"ids[{place}]", "an id is an integer or text")
    for place, id_ in enumerate(ids if str in kinds else ()):
        if isinstance(id_, str) and not is_text(id_):
            raise InvalidQuery(f"ids[{place}]", NO_TEXT)
    return table.items.find_all(ids)
