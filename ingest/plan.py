"""How rows become shards and buckets, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simshard.shards.format import BATCH_ROWS
from simshard.shards.manifest import Encoding

SORT_BYTES = 64  # what gathering and sorting one entry of a sparse bucket takes, at its peak


@dataclass(frozen=True)
class Plan:
    """How rows become shards and buckets: row bounds of shards (S+1,) and of buckets (B+1,), every shard's among them.

    A bucket is what one job can gather in its share of memory: a number of whole record batches of one shard, or a part
    of one batch.
    """

    encoding: Encoding
    items: int
    batch_rows: int
    shard_bounds: NDArray[np.int64]
    bucket_bounds: NDArray[np.int64]
    memory: int


def make_plan(
    degrees: NDArray[np.int64],
    encoding: Encoding,
    shards: int,
    memory: int,
    align: int = 1,
    gathered: NDArray[np.int64] | None = None,
    starts: tuple[int, ...] | None = None,
    batch_rows: int | None = None,
) -> Plan:
    """Shards of about equal numbers of pairs, in buckets of at most `memory` bytes each.

    degrees: int64 (N,), stored directions of every row, duplicates counted; align: shards of many times so many rows
    begin at a multiple of it; gathered: int64 (N,), directions that are gathered of every row, where more than those
    stored; starts: first rows of the shards, instead of equal ones; batch_rows: a power of two, instead of what fits.
    """
    items = len(degrees)
    stored = np.concatenate(([0], np.cumsum(degrees)))
    taken = stored if gathered is None else np.concatenate(([0], np.cumsum(gathered)))
    bounds = np.append(starts or _equal_starts(stored, shards, align), items).astype(np.int64)

    def cost(before: NDArray[np.int64], firsts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.int64]:
        return (stops - firsts) * items * 4 if encoding == "dense" else (before[stops] - before[firsts]) * SORT_BYTES

    def fitting(rows: int, before: NDArray[np.int64]) -> int:
        while rows > 1 and max(int(cost(before, *steps).max()) for steps in _steps(bounds, rows)) > memory:
            rows //= 2
        return rows

    batch_rows = batch_rows or fitting(BATCH_ROWS, stored)
    step = batch_rows if encoding == "dense" else fitting(batch_rows, taken)  # a dense batch is gathered as a whole
    buckets = [0]
    for firsts, stops in _steps(bounds, step):
        bucket_start = firsts[0]
        for row_start, row_stop in zip(firsts[1:], stops[1:], strict=True):
            new_batch = step < batch_rows and (row_start - firsts[0]) % batch_rows == 0
            if new_batch or cost(taken, bucket_start, row_stop) > memory:
                buckets.append(int(row_start))
                bucket_start = row_start
        buckets.append(int(stops[-1]))
    return Plan(encoding, items, batch_rows, bounds, np.array(buckets, dtype=np.int64), memory)


def _equal_starts(before: NDArray[np.int64], shards: int, align: int) -> NDArray[np.int64]:
    """The first rows of shards of about equal numbers of directions, of which so many lie before each row."""
    items = len(before) - 1
    shards = max(1, min(shards, items))
    cuts = np.searchsorted(before, before[-1] * np.arange(1, shards) / shards)
    if items >= 4 * align * shards:
        cuts = (cuts + align // 2) // align * align
    for i in range(shards - 1):  # at least one row for each
        cuts[i] = min(max(cuts[i], cuts[i - 1] + 1 if i else 1), items - (shards - 1 - i))
    return np.concatenate(([0], cuts))


def _steps(bounds: NDArray[np.int64], rows: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Of every shard: where runs of so many rows start and stop."""
    for start, stop in zip(bounds[:-1], bounds[1:], strict=True):
        starts = np.arange(start, stop, rows)
        yield starts, np.minimum(starts + rows, stop)
