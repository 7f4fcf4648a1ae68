"""A dense store of the reference size, written straight through the writer: any scale, fixed seed, symmetric."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.writing import shard_name
from simshard.shards.format import BATCH_ROWS, MISSING, ShardWriter
from simshard.shards.item_files import write_item_files
from simshard.shards.manifest import Manifest, ShardInfo
from simshard.shards.store import Store
from simshard.shards.tops import dense_batch

ITEMS = 37_030
PAIRS = 649_141_288  # of the 685,591,935 that 37,030 items have
# A pair is there where its number lies below this. The numbers of all pairs differ, so there is a limit that leaves
# exactly PAIRS of them at ITEMS items, and the same share, nearly, at any other size.
LIMIT = 0xF26362DBAA15A28D


def block(start: int, stop: int, items: int) -> NDArray[np.float32]:
    """Rows start:stop of the matrix: float32 (R, items) of 4 decimals, skewed to low scores, NaN for missing pairs."""
    rows = np.arange(start, stop, dtype=np.uint64)[:, None]
    columns = np.arange(items, dtype=np.uint64)
    mixed = np.minimum(rows, columns) * np.uint64(items) + np.maximum(rows, columns)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):  # splitmix64's finalizer
        mixed ^= mixed >> np.uint64(shift)
        mixed *= np.uint64(factor)
    mixed ^= mixed >> np.uint64(31)
    scores = (mixed >> np.uint64(40)).astype(np.float32) / np.float32(2**24)
    scores *= scores
    np.round(scores, 4, out=scores)
    # Turned round, so that whether a pair is there hangs on bits that its score does not.
    turned = (mixed << np.uint64(40)) | (mixed >> np.uint64(24))
    scores[turned >= np.uint64(LIMIT)] = MISSING
    scores[np.arange(stop - start), np.arange(start, stop)] = MISSING
    return scores


@dataclass(frozen=True)
class _Job:
    folder: Path
    index: int
    start: int
    stop: int
    items: int


def _write(job: _Job) -> tuple[ShardInfo, float]:
    writer = ShardWriter(job.folder / shard_name(job.index), "dense", job.items, job.start)
    for at in range(job.start, job.stop, BATCH_ROWS):
        writer.write_dense(dense_batch(block(at, min(at + BATCH_ROWS, job.stop), job.items)))
    return writer.close(), writer.score_abs_max


def scaled(scale: float) -> int:
    """How many items have this fraction of the reference's pairs."""
    return round(ITEMS * scale**0.5)


def title(item: int) -> str:
    """The title of an item."""
    return f"Title number {item}"


def write_store(root: Path, items: int, shards: int = 2) -> Store:
    """Publish and activate the store, unless it is there already."""
    store = Store(root)
    if store.root.exists():
        return store
    bounds = np.linspace(0, items, shards + 1).astype(int).tolist()
    with store.stage() as staging, ProcessPoolExecutor(2) as pool:
        jobs = [_Job(staging.folder, i, bounds[i], bounds[i + 1], items) for i in range(shards)]
        written = list(pool.map(_write, jobs))
        titles = pa.array([title(row) for row in range(items)])
        entries = sum(info.entries for info, _ in written)
        assert items != ITEMS or entries == 2 * PAIRS
        staging.publish(
            Manifest(
                name=staging.name,
                created="2026-01-01T00:00:00+00:00",
                encoding="dense",
                items=items,
                pairs=entries // 2,
                directed=False,
                score_abs_max=max(largest for _, largest in written),
                batch_rows=BATCH_ROWS,
                **write_item_files(staging.folder, pa.array(range(items), pa.int64()), {"title": titles})._asdict(),
                shards=tuple(info for info, _ in written),
                source={"generated": "benchmarks.reference"},
                options={},
                dropped={},
            )
        )
    store.activate(staging.name)
    return store


def drop_pages(store: Store) -> None:
    """Ask the kernel to forget the file pages of the active snapshot that nobody has touched through a map."""
    folder = store.snapshots / store.resolve()
    for path in folder.iterdir():
        descriptor = os.open(path, os.O_RDONLY)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(descriptor)
