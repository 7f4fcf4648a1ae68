"""Partitions -> shard files: gathered bucket by bucket, in the order of the input, so that of repeated pairs the last
one wins whatever the parallelism; of each row all pairs are kept, or the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simshard.ingest.cut_lists import Ends, WrittenShard, ends_of, join_ends
from simshard.ingest.plan import SORT_BYTES, Plan
from simshard.ingest.shuffle import ENTRY, Partition
from simshard.shards.format import MISSING, ShardReader, ShardWriter
from simshard.shards.manifest import Manifest, ShardInfo
from simshard.shards.query import Rows, best
from simshard.shards.tops import dense_batch


@dataclass(frozen=True)
class ShardJob:
    """Write shard `index` of the plan into `folder` from all partitions, in the order of the input.

    top: how many of each row are kept, the best, ties by ascending row; None: all.
    """

    plan: Plan
    index: int
    folder: Path
    partitions: list[Partition]
    top: int | None = None


@dataclass(frozen=True)
class GatheredShard(WrittenShard):
    """A finished shard file of pairs; found: stored directions before any were cut off."""

    found: int


def shard_name(index: int) -> str:
    """The file name of a shard."""
    return f"shard-{index:05d}.arrow"


def write_shard(job: ShardJob) -> GatheredShard:
    """Gather, deduplicate, cut and write one shard, bucket by bucket."""
    plan = job.plan
    start, stop = plan.shard_bounds[job.index : job.index + 2].tolist()
    writer = ShardWriter(job.folder / shard_name(job.index), plan.encoding, plan.items, start)
    write = _write_dense if plan.encoding == "dense" else _write_sparse
    found, ends = write(job, writer, stop)
    return GatheredShard(writer.close(), writer.score_abs_max, join_ends(ends), found)


def _buckets(job: ShardJob) -> Iterator[tuple[int, int, Iterator[NDArray[np.void]]]]:
    """The shard's buckets: rows from, to, and the entries of each partition."""
    bounds = job.plan.bucket_bounds
    first, last = np.searchsorted(bounds, job.plan.shard_bounds[job.index : job.index + 2])
    for bucket in range(int(first), int(last)):
        yield int(bounds[bucket]), int(bounds[bucket + 1]), _slices(job.partitions, bucket)


def _write_dense(job: ShardJob, writer: ShardWriter, _: int) -> tuple[int, list[Ends]]:
    """Write all batches; how many directions were found, and where the rows' best end."""
    items, found, ends = job.plan.items, 0, []
    for row_start, row_stop, slices in _buckets(job):
        matrix = np.full((row_stop - row_start, items), MISSING)
        flat = matrix.reshape(-1)
        for entries in slices:  # of repeated indices, numpy's assignment leaves the last value
            flat[(entries["row"] - np.int64(row_start)) * items + entries["neighbor"]] = entries["score"]
        if job.top is not None:
            found += matrix.size - int(np.count_nonzero(np.isnan(matrix)))
            ends.append(keep_best(matrix, job.top))
        for at in range(0, len(matrix), job.plan.batch_rows):
            writer.write_dense(dense_batch(matrix[at : at + job.plan.batch_rows]))
    return writer.entries if job.top is None else found, ends


def keep_best(scores: NDArray[np.float32], top: int) -> Ends:
    """Set all but the best `top` of each row of scores float32 (R, N) to NaN; where the rows' best end."""
    ends = Ends(np.full(len(scores), -np.inf, dtype=np.float32), np.zeros(len(scores), dtype=np.uint32))
    for i, row in enumerate(scores):
        there = np.flatnonzero(~np.isnan(row))
        kept = there[best(row[there], top)]
        values = row[kept]
        row.fill(MISSING)
        row[kept] = values
        if len(kept) == top:
            ends.scores[i], ends.neighbors[i] = values[-1], kept[-1]
    return ends


def _write_sparse(job: ShardJob, writer: ShardWriter, stop: int) -> tuple[int, list[Ends]]:
    """The same in the other encoding; a batch is written when all of its rows are there."""
    found, ends, batch_rows = 0, [], job.plan.batch_rows
    waiting: list[tuple[NDArray[np.int64], NDArray[np.void]]] = []
    rows = 0
    for row_start, row_stop, slices in _buckets(job):
        entries = _gather(slices, job.plan.memory)
        entries = entries[_best_first(entries)]
        offsets = np.searchsorted(entries["row"], np.arange(row_start, row_stop + 1))
        found += len(entries)
        if job.top is not None:
            offsets, entries = _cut(offsets, entries, job.top)
            ends.append(ends_of(offsets, entries["neighbor"], entries["score"], job.top))
        for at in range(0, row_stop - row_start, batch_rows):
            local = offsets[at : at + batch_rows + 1]
            waiting.append((np.diff(local), entries[local[0] : local[-1]]))
            rows += len(local) - 1
            if rows == batch_rows or writer.row + rows == stop:
                part = np.concatenate([some for _, some in waiting])
                counts = np.concatenate([some for some, _ in waiting])
                writer.write_sparse(
                    np.concatenate(([0], np.cumsum(counts))), part["neighbor"].copy(), part["score"].copy()
                )
                waiting, rows = [], 0
    return found, ends


def _cut(offsets: NDArray[np.int64], entries: NDArray[np.void], top: int) -> tuple[NDArray[np.int64], NDArray[np.void]]:
    """The first `top` entries of each row."""
    counts = np.diff(offsets)
    if not len(counts) or counts.max() <= top:
        return offsets, entries
    rank = np.arange(len(entries)) - np.repeat(offsets[:-1], counts)
    return np.concatenate(([0], np.cumsum(np.minimum(counts, top)))), entries[rank < top]


def _slices(partitions: Iterable[Partition], bucket: int) -> Iterator[NDArray[np.void]]:
    for part in partitions:
        first, stop = part.offsets[bucket : bucket + 2].tolist()
        if stop > first:
            yield np.fromfile(part.path, ENTRY, stop - first, offset=first * ENTRY.itemsize)


def _gather(slices: Iterator[NDArray[np.void]], memory: int) -> NDArray[np.void]:
    """The entries of all slices, unique by (row, neighbor), the last of repeated ones kept.

    What was gathered is deduplicated whenever it outgrows the memory, so that repetitions do not add up.
    """
    parts: list[NDArray[np.void]] = []
    size = unique = 0
    for entries in slices:
        parts.append(entries)
        size += len(entries)
        if size * SORT_BYTES > memory and size > 2 * unique:
            parts = [_last_of_each(np.concatenate(parts))]
            size = unique = len(parts[0])
    return _last_of_each(np.concatenate(parts)) if parts else np.empty(0, ENTRY)


def _last_of_each(entries: NDArray[np.void]) -> NDArray[np.void]:
    keys = entries["row"].astype(np.uint64) << np.uint64(32) | entries["neighbor"]
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    last = np.concatenate((keys[1:] != keys[:-1], [True]))
    return entries[order[last]]


def _best_first(entries: NDArray[np.void]) -> NDArray[np.intp]:
    """The order by row, then score descending, then neighbor, of entries that are in order of (row, neighbor).

    One stable sort of 64-bit keys: the row above the score's bits, flipped so that larger scores come first.
    """
    bits = entries["score"].copy().view(np.uint32)
    ascending = np.where(bits >> np.uint32(31), ~bits, bits | np.uint32(1 << 31))
    keys = entries["row"].astype(np.uint64) << np.uint64(32) | ~ascending
    return np.argsort(keys, kind="stable")


@dataclass(frozen=True)
class SparseJob:
    """Rewrite shard `index` of a dense snapshot in `folder` as a sparse one in `target`."""

    folder: Path
    manifest: Manifest
    index: int
    target: Path


def join_lists(
    rows: list[tuple[Rows, NDArray[np.float32]]],
) -> tuple[NDArray[np.int64], Rows, NDArray[np.float32]]:
    """Neighbors and scores of R rows as one batch: offsets int64 (R + 1,), neighbors uint32, scores float32."""
    offsets = np.cumsum([0] + [len(neighbors) for neighbors, _ in rows])
    return offsets, np.concatenate([neighbors for neighbors, _ in rows]), np.concatenate([scores for _, scores in rows])


def rewrite_sparse(job: SparseJob) -> ShardInfo:
    """The same pairs in the other encoding, batch by batch; what the manifest says of the file."""
    reader = ShardReader(job.folder, job.manifest, job.index)
    writer = ShardWriter(job.target / shard_name(job.index), "sparse", job.manifest.items, reader.row_start)
    for start in range(reader.row_start, reader.row_stop, job.manifest.batch_rows):
        rows = [reader.neighbors(row) for row in range(start, min(start + job.manifest.batch_rows, reader.row_stop))]
        writer.write_sparse(*join_lists(rows))
    return writer.close()
