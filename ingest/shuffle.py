"""The external partition: parsed pairs spill by piece, then by range of rows, then become shard files.

Three plain functions, each run as many jobs in parallel, each bounded in memory by its job's size:
`spill` parses a piece and writes its pairs with ids as codes; `partition` turns codes into rows and orders a spill by
bucket; `write_shard` gathers one bucket after another from all partitions, in the order of the input, so that of
repeated pairs the last one wins whatever the parallelism.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.plan import SORT_BYTES, Plan
from simshard.ingest.records import Pairs
from simshard.ingest.sources import Piece, parse
from simshard.shards.format import MISSING, ShardReader, ShardWriter, dense_batch
from simshard.shards.items import Items
from simshard.shards.manifest import Manifest, ShardInfo
from simshard.shards.query import Rows

_ENTRY = np.dtype([("row", np.uint32), ("neighbor", np.uint32), ("score", np.float32)])


@dataclass(frozen=True)
class Spill:
    """One spilled piece and what was counted on the way.

    On disk: codes of a, uint32 (pairs,), codes of b, scores float32; a code is a place in the ids beside it.
    """

    path: Path
    pairs: int
    records: int
    self_pairs: int
    bytes: int


class Spilled(NamedTuple):
    """A spill, its distinct ids (K,), and the stored directions of each, int64 (K,)."""

    spill: Spill
    ids: pa.Array
    degrees: NDArray[np.int64]


@dataclass(frozen=True)
class SpillJob:
    """Parse this piece into `path`."""

    piece: Piece
    path: Path
    directed: bool


def spill(job: SpillJob) -> Spilled:
    """Parse a piece, drop its self-pairs and write the rest. Raises RefusedRecord and Malformed."""
    parts = []
    records = 0
    for pairs, count in parse(job.piece):
        parts.append(pairs)
        records += count
    return spill_pairs(parts, job.path, job.directed, records, job.piece.stop - job.piece.start)


def spill_pairs(parts: list[Pairs], path: Path, directed: bool, records: int, size: int) -> Spilled:
    """Write parsed pairs, self-pairs dropped, ids as codes. Needs at least one part."""
    encoded = pa.concat_arrays([part.a for part in parts] + [part.b for part in parts]).dictionary_encode()
    scores = np.concatenate([part.scores for part in parts])
    codes = encoded.indices.to_numpy().astype(np.uint32, copy=False).reshape(2, -1)
    distinct = codes[0] != codes[1]
    self_pairs = len(scores) - int(distinct.sum())
    if self_pairs:
        codes, scores = codes[:, distinct], scores[distinct]
    degrees = np.bincount(codes[0], minlength=len(encoded.dictionary))
    if not directed:
        degrees += np.bincount(codes[1], minlength=len(encoded.dictionary))
    with open(path, "wb") as file:  # a task that Ray runs again begins anew
        np.ascontiguousarray(codes).tofile(file)
        scores.tofile(file)
    with pa.ipc.new_file(str(_ids_path(path)), pa.schema({"id": encoded.dictionary.type})) as writer:
        writer.write_batch(pa.record_batch({"id": encoded.dictionary}))
    return Spilled(Spill(path, len(scores), records, self_pairs, size), encoded.dictionary, degrees)


def _ids_path(path: Path) -> Path:
    return path.with_suffix(".ids")


def remove_spill(spill: Spill) -> None:
    """Free the disk of a spill whose partition is there."""
    os.unlink(spill.path)
    os.unlink(_ids_path(spill.path))


class Degrees:
    """The distinct ids of all spills with the stored directions of each, gathered as spills arrive."""

    def __init__(self) -> None:
        self._parts: list[tuple[pa.Array, NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, ids: pa.Array, counts: NDArray[np.int64]) -> None:
        """Take the ids of one spill in; merged when they outnumber those known, so that each is touched rarely."""
        self._parts.append((ids, counts))
        self._waiting += len(ids)
        if self._waiting > max(2 * len(self._parts[0][0]), 1 << 20):
            self.merged()

    def merged(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """All ids, in no particular order, and their counts. Needs at least one spill."""
        encoded = pa.concat_arrays([ids for ids, _ in self._parts]).dictionary_encode()
        codes = encoded.indices.to_numpy()
        counts = np.zeros(len(encoded.dictionary), dtype=np.int64)
        np.add.at(counts, codes, np.concatenate([counts for _, counts in self._parts]))
        self._parts = [(encoded.dictionary, counts)]
        self._waiting = 0
        return self._parts[0]


@dataclass(frozen=True)
class Partition:
    """A spill ordered by bucket: entries of bucket i are offsets[i]:offsets[i+1] of the file; int64 (B+1,)."""

    path: Path
    offsets: NDArray[np.int64]


@dataclass(frozen=True)
class PartitionJob:
    """Order this spill by the buckets of the plan, with the item table in `folder`."""

    path: Path
    pairs: int
    folder: Path
    bucket_bounds: NDArray[np.int64]
    directed: bool


def partition(job: PartitionJob) -> Partition:
    """Codes become rows, an undirected pair becomes two entries, entries are ordered by bucket, stably."""
    with pa.ipc.open_file(str(_ids_path(job.path))) as file:
        rows = Items(job.folder).rows(file.get_batch(0).column("id"))
    with open(job.path, "rb") as file:
        a = rows[np.fromfile(file, np.uint32, job.pairs)]
        b = rows[np.fromfile(file, np.uint32, job.pairs)]
        scores = np.fromfile(file, np.float32, job.pairs)
    entries = np.empty(job.pairs if job.directed else 2 * job.pairs, dtype=_ENTRY)
    step = 1 if job.directed else 2  # both directions side by side, so that the order of the input stays
    entries["row"][::step], entries["neighbor"][::step], entries["score"][::step] = a, b, scores
    if not job.directed:
        entries["row"][1::2], entries["neighbor"][1::2], entries["score"][1::2] = b, a, scores
    count = len(job.bucket_bounds) - 1
    bucket_of = np.arange(count, dtype=np.uint16 if count < 2**16 else np.uint32).repeat(np.diff(job.bucket_bounds))
    buckets = bucket_of[entries["row"]]
    order = np.argsort(buckets, kind="stable")
    offsets = np.concatenate(([0], np.cumsum(np.bincount(buckets, minlength=count))))
    path = job.path.with_suffix(".entries")
    with open(path, "wb") as file:
        entries[order].tofile(file)
    return Partition(path, offsets)


@dataclass(frozen=True)
class ShardJob:
    """Write shard `index` of the plan into `folder` from all partitions, in the order of the input."""

    plan: Plan
    index: int
    folder: Path
    partitions: list[Partition]


@dataclass(frozen=True)
class WrittenShard:
    """A finished shard file and the largest absolute score in it."""

    info: ShardInfo
    score_abs_max: float


def shard_name(index: int) -> str:
    """The file name of a shard."""
    return f"shard-{index:05d}.arrow"


def write_shard(job: ShardJob) -> WrittenShard:
    """Gather, deduplicate and write one shard, bucket by bucket."""
    plan = job.plan
    start, stop = plan.shard_bounds[job.index : job.index + 2].tolist()
    writer = ShardWriter(job.folder / shard_name(job.index), plan.encoding, plan.items, start)
    first, last = np.searchsorted(plan.bucket_bounds, (start, stop))
    for bucket in range(int(first), int(last)):
        row_start, row_stop = plan.bucket_bounds[bucket : bucket + 2].tolist()
        slices = _slices(job.partitions, bucket)
        if plan.encoding == "dense":
            matrix = np.full((row_stop - row_start, plan.items), MISSING)
            flat = matrix.reshape(-1)
            for entries in slices:  # of repeated indices, numpy's assignment leaves the last value
                flat[(entries["row"] - np.int64(row_start)) * plan.items + entries["neighbor"]] = entries["score"]
            for at in range(0, len(matrix), plan.batch_rows):
                writer.write_dense(dense_batch(matrix[at : at + plan.batch_rows]))
        else:
            entries = _gather(slices, plan.memory)
            entries = entries[_best_first(entries)]
            offsets = np.searchsorted(entries["row"], np.arange(row_start, row_stop + 1))
            for at in range(0, row_stop - row_start, plan.batch_rows):
                local = offsets[at : at + plan.batch_rows + 1]
                part = entries[local[0] : local[-1]]
                writer.write_sparse(local - local[0], part["neighbor"].copy(), part["score"].copy())
    return WrittenShard(writer.close(), writer.score_abs_max)


def _slices(partitions: Iterable[Partition], bucket: int) -> Iterator[NDArray[np.void]]:
    for part in partitions:
        first, stop = part.offsets[bucket : bucket + 2].tolist()
        if stop > first:
            yield np.fromfile(part.path, _ENTRY, stop - first, offset=first * _ENTRY.itemsize)


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
    return _last_of_each(np.concatenate(parts)) if parts else np.empty(0, _ENTRY)


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


def rewrite_sparse(job: SparseJob) -> WrittenShard:
    """The same pairs in the other encoding, batch by batch."""
    reader = ShardReader(job.folder, job.manifest, job.index)
    writer = ShardWriter(job.target / shard_name(job.index), "sparse", job.manifest.items, reader.row_start)
    for start in range(reader.row_start, reader.row_stop, job.manifest.batch_rows):
        rows = [reader.neighbors(row) for row in range(start, min(start + job.manifest.batch_rows, reader.row_stop))]
        writer.write_sparse(*join_lists(rows))
    return WrittenShard(writer.close(), writer.score_abs_max)
