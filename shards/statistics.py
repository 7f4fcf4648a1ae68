"""What the scores of a snapshot look like: for summaries and plots."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simshard.shards.format import ShardReader
from simshard.shards.store import Snapshot

SAMPLE = 1_000_000


def sample_scores(snapshot: Snapshot, size: int = SAMPLE) -> tuple[NDArray[np.float32], int]:
    """Stored scores, float32, of every s-th item, and s: 1, or so large that there are about `size` of them."""
    manifest = snapshot.manifest
    step = max(-(-sum(shard.entries for shard in manifest.shards) // size), 1)
    scores = [np.empty(0, dtype=np.float32)]
    for index, shard in enumerate(manifest.shards):
        reader = ShardReader(snapshot.folder, manifest, index)
        first = -(-shard.row_start // step) * step
        scores += [reader.neighbors(row)[1] for row in range(first, shard.row_stop, step)]
    return np.concatenate(scores), step


def count_neighbors(snapshot: Snapshot) -> NDArray[np.int64]:
    """How many scores are stored for each item: int64 (N,)."""
    manifest = snapshot.manifest
    readers = (ShardReader(snapshot.folder, manifest, index) for index in range(len(manifest.shards)))
    return np.array([reader.count(row) for reader in readers for row in range(reader.row_start, reader.row_stop)])
