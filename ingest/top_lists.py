"""Which scores of a row are stored: the best `top`, those that reach a threshold, or all; exact where scores tie."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simshard.ingest.similarity import TILE, Scores
from simshard.ingest.writing import join_lists
from simshard.shards.query import Rows, best

MAX_ITEMS = 1 << 24  # a key has 24 bits for the neighbor
ENTRY_BYTES = 40  # what gathering one entry takes at its peak
_SPARE = 1 << 16  # entries gathered beyond twice the kept ones before a sort


def least(threshold: float | None) -> np.float32:
    """The least float32 that is kept."""
    return np.float32(-np.inf if threshold is None else threshold)


class Lists:
    """Neighbors of R <= 256 rows, best first, ties by ascending neighbor, from tiles offered in any order.

    Every entry is one 64-bit key, the row in 8 bits, the score in 32, descending, the neighbor in 24, so that one sort
    of plain integers orders them all. What can no longer be among the best `top` of a row is not gathered.
    """

    def __init__(self, rows: int, top: int | None, threshold: float | None) -> None:
        self._top = top
        self._cut = np.full(rows, least(threshold))  # the least score that may still enter
        self._last = np.full(rows, MAX_ITEMS)  # and the neighbor with that score, which a tie must come before
        self._rows = np.arange(rows, dtype=np.uint64) << np.uint64(56)
        self._parts: list[NDArray[np.uint64]] = []
        self._waiting = 0
        self._limit = 2 * (top or 0) * rows + _SPARE

    def offer(self, first: int, tile: Scores) -> None:
        """Take in scores float32 (R, C) with the neighbors from `first` on; NaN where there is no pair."""
        enter = np.where(self._last > first, self._cut, np.nextafter(self._cut, np.float32(np.inf)))
        if tile.flags.c_contiguous:
            rows, places = np.divmod(np.flatnonzero(tile >= enter[:, None]), tile.shape[1])
        else:  # a transposed one, in the order of its memory
            columns = tile.T
            places, rows = np.divmod(np.flatnonzero(columns >= enter), tile.shape[0])
        if not len(rows):
            return
        bits = tile[rows, places].view(np.uint32)
        descending = np.where(bits >> np.uint32(31), bits, ~(bits | np.uint32(1 << 31)))
        neighbors = places.astype(np.uint64) + np.uint64(first)
        self._parts.append(self._rows[rows] | descending.astype(np.uint64) << np.uint64(24) | neighbors)
        self._waiting += len(rows)
        if self._top is not None and self._waiting > self._limit:
            self._sort()

    def _sort(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The keys in order, at most `top` a row, and the offsets of the rows, int64 (R + 1,)."""
        keys = np.sort(np.concatenate(self._parts)) if self._parts else np.empty(0, np.uint64)
        offsets = np.append(np.searchsorted(keys, self._rows), len(keys))
        counts = np.diff(offsets)
        if self._top is not None:
            if (counts > self._top).any():
                rank = np.arange(len(keys)) - np.repeat(offsets[:-1], counts)
                keys = keys[rank < self._top]
                counts = np.minimum(counts, self._top)
                offsets = np.concatenate(([0], np.cumsum(counts)))
            full = np.flatnonzero(counts == self._top)
            worst = keys[offsets[full + 1] - 1]
            self._cut[full] = _scores(worst)
            self._last[full] = _neighbors(worst)
        self._parts, self._waiting = [keys], len(keys)
        return keys, offsets

    def finish(self) -> tuple[NDArray[np.int64], Rows, Scores]:
        """Offsets int64 (R + 1,), neighbors uint32 and scores float32 of all rows."""
        keys, offsets = self._sort()
        return offsets, _neighbors(keys), _scores(keys)


def _scores(keys: NDArray[np.uint64]) -> Scores:
    descending = (keys >> np.uint64(24)).astype(np.uint32)
    bits = np.where(descending >> np.uint32(31), descending, ~descending & np.uint32(0x7FFFFFFF))
    return bits.view(np.float32)


def _neighbors(keys: NDArray[np.uint64]) -> Rows:
    return (keys & np.uint64(MAX_ITEMS - 1)).astype(np.uint32)


def lists_of(scores: Scores, top: int | None) -> tuple[NDArray[np.int64], Rows, Scores]:
    """The same of whole rows of scores float32 (R, N), NaN where nothing is to be stored."""
    rows = []
    for row in scores:
        there = np.flatnonzero(~np.isnan(row)).astype(np.uint32)
        order = best(row[there], len(there) if top is None else top)
        rows.append((there[order], row[there][order]))
    return join_lists(rows)


def tiles_in_turn(tiles: int) -> NDArray[np.int64]:
    """All tiles in a scattered order that is always the same.

    Catalogues are often sorted by what makes neighbors alike; in their own order nearly every tile would beat the last.
    """
    return np.random.default_rng(TILE).permutation(tiles)
