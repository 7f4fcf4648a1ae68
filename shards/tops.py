"""The best of each row, which a dense shard stores beside it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.shards.query import Rows, best

TOP = 256


def top_size(items: int) -> int:
    """How many of a dense row's best are stored beside it."""
    return max(min(TOP, items - 1), 1)


class DenseBatch(NamedTuple):
    """Rows of a dense shard: scores float32 (R, N), which of them are present, and the best of each row, (R, top)."""

    scores: NDArray[np.float32]
    present: NDArray[np.bool_]
    top: Rows
    top_scores: NDArray[np.float32]
    top_used: NDArray[np.bool_]


def dense_batch(scores: NDArray[np.float32]) -> DenseBatch:
    """A batch of these scores, float32 (R, N), NaN where there is no pair, overwritten with +0.0."""
    count, items = scores.shape
    size = top_size(items)
    top = np.zeros((count, size), dtype=np.uint32)
    top_scores = np.zeros((count, size), dtype=np.float32)
    top_used = np.zeros((count, size), dtype=np.bool_)
    missing = np.isnan(scores)
    np.copyto(scores, -np.inf, where=missing)
    for i in range(count):
        chosen = best(scores[i], size)
        values = scores[i][chosen]
        used = int((values > -np.inf).sum())
        top[i, :used], top_scores[i, :used], top_used[i, :used] = chosen[:used], values[:used], True
    np.copyto(scores, 0.0, where=missing)
    return DenseBatch(scores, ~missing, top, top_scores, top_used)


class Top(NamedTuple):
    """The best of R rows, best first, padded: neighbors uint32 (R, W), scores float32 (R, W), how many of them, int
    (R,), and whether they are all that the row has, bool (R,).
    """

    neighbors: Rows
    scores: NDArray[np.float32]
    counts: NDArray[np.intp]
    complete: NDArray[np.bool_]
