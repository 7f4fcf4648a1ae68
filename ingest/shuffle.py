"""The external partition: parsed pairs spill by piece, then by range of rows.

Plain functions, each run as many jobs in parallel, each bounded in memory by its job's size: `spill` and `spill_groups`
parse a piece and write its pairs with ids as codes; `partition` turns codes into rows and orders a spill by bucket.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.json_pairs import Piece, parse
from simshard.ingest.pair_records import Pairs
from simshard.ingest.parquet_pairs import RowGroups, portions
from simshard.shards.items import Items

ENTRY = np.dtype([("row", np.uint32), ("neighbor", np.uint32), ("score", np.float32)])


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


@dataclass(frozen=True)
class GroupsJob:
    """Parse these row groups into `path`, and others beside it, of so many `records` each."""

    groups: RowGroups
    path: Path
    directed: bool
    records: int


def spill_groups(job: GroupsJob) -> list[Spilled]:
    """Write the pairs of row groups, in the order of the file. Raises RefusedRecord and InputError."""
    return list(spills_of(job))


def spills_of(job: GroupsJob) -> Iterator[Spilled]:
    """The same one by one."""
    for number, parts in enumerate(portions(job.groups, job.records)):
        records = sum(len(part.scores) for part in parts)
        path = job.path.with_name(f"{job.path.stem}-{number}{job.path.suffix}")
        yield spill_pairs(parts, path, job.directed, records, job.groups.source.bytes_of(records))


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
    entries = np.empty(job.pairs if job.directed else 2 * job.pairs, dtype=ENTRY)
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
