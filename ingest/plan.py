"""How rows become shards and buckets, before anything is written."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simshard.shards.format import BATCH_ROWS
from simshard.shards.manifest import Encoding

SORT_BYTES = 64  # what gathering and sorting one entry of a sparse bucket takes, at its peak


@dataclass(frozen=True)
class Plan:
    """How rows become shards and buckets: row bounds of shards (S+1,) and of buckets (B+1,), every shard's among them.

    A bucket is a number of whole record batches of one shard that one job can gather in its share of memory.
    """

    encoding: Encoding
    items: int
    batch_rows: int
    shard_bounds: NDArray[np.int64]
    bucket_bounds: NDArray[np.int64]
    memory: int


def make_plan(degrees: NDArray[np.int64], encoding: Encoding, shards: int, memory: int, align: int = 1) -> Plan:
    """Shards of about equal numbers of pairs, in buckets of at most `memory` bytes each.

    degrees: int64 (N,), stored directions of every row, duplicates counted; align: shards of many times so many rows
    begin at a multiple of it.
    """
    items = len(degrees)
    shards = max(1, min(shards, items))
    before = np.concatenate(([0], np.cumsum(degrees)))
    cuts = np.searchsorted(before, before[-1] * np.arange(1, shards) / shards)
    if items >= 4 * align * shards:
        cuts = (cuts + align // 2) // align * align
    for i in range(shards - 1):  # at least one row for each
        cuts[i] = min(max(cuts[i], cuts[i - 1] + 1 if i else 1), items - (shards - 1 - i))
    bounds = np.concatenate(([0], cuts, [items])).astype(np.int64)

    def cost(starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
        return (stops - starts) * items * 4 if encoding == "dense" else (before[stops] - before[starts]) * SORT_BYTES

    batch_rows = BATCH_ROWS
    while True:
        buckets = [0]
        largest = 0
        for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
            starts = np.arange(start, stop, batch_rows)
            stops = np.minimum(starts + batch_rows, stop)
            largest = max(largest, int(cost(starts, stops).max()))
            bucket_start = start
            for row_start, row_stop in zip(starts, stops, strict=True):
                if row_start > bucket_start and cost(bucket_start, row_stop) > memory:
                    buckets.append(int(row_start))
                    bucket_start = row_start
            buckets.append(int(stop))
        if largest <= memory or batch_rows == 1:
            return Plan(encoding, items, batch_rows, bounds, np.array(buckets, dtype=np.int64), memory)
        batch_rows //= 2
