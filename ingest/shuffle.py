"""The external partition: what spilled by piece is ordered by range of rows.

`partition` is a plain function, run as many jobs in parallel, bounded in memory by its job's size: it turns the codes
of a spill into rows and orders them by bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.spills import ids_path
from simshard.shards.items import Items

ENTRY = np.dtype([("row", np.uint32), ("neighbor", np.uint32), ("score", np.float32)])


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
    with pa.ipc.open_file(str(ids_path(job.path))) as file:
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
