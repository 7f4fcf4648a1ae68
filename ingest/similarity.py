"""Scores of items by their features, tile by tile of the matrix: numpy and BLAS, no files, no Ray.

The matrix is cut into fixed tiles of 256 x 256 scores. A tile above the diagonal is computed from the same numbers in
the same order by whoever needs it, and the tile below is its transpose, so that score(a, b) = score(b, a) bit by bit
however the rows are parted among tasks. BLAS must run on one thread (see `one_thread`); it is the tiles that run in
parallel.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

TILE = 256
Scores = NDArray[np.float32]
_RARE_CHUNK = 2048
_MANY_KINDS = 256
_SUMMED = 20  # features whose subsets are counted one by one


def one_thread() -> AbstractContextManager[object]:
    """A context in which BLAS calls of this process use the calling thread only."""
    limits: AbstractContextManager[object] = threadpool_limits(1, user_api="blas")
    return limits


class Feature(Protocol):
    """One feature of N items."""

    def similarity(self, rows: slice, columns: slice, out: Scores, spare: Scores) -> None:
        """Write similarities of rows (R,) with columns (C,), 0 where either has no value, into `out`, float32 (R, C).

        `spare`, of the same shape, may be overwritten.
        """


@dataclass(frozen=True)
class SetFeature:
    """Similarity of sets of terms, each with a weight: 1, or its inverse document frequency.

    cosine:  sum of squared weights of shared terms / sqrt(the same sum over a's terms x over b's)   (Otsuka-Ochiai)
    jaccard: sum of weights of shared terms / sum of weights of the terms of either                  (Ruzicka)
    idf:     ln((1 + n) / (1 + items with the term)) + 1, n the number of items that have any term

    Sources: Salton and McGill, "Introduction to Modern Information Retrieval", 1983; Jaccard, 1912; Ruzicka, 1958; idf
    by Spärck Jones, 1972, smoothed as scikit-learn does. Without idf, a score is the exact quotient, rounded.

    frequent: float32 (N, F), the root of what a shared term adds, for the most frequent terms that an item has.
    offsets, codes: int64 (N + 1,), uint32: the other terms of each item; values: float32, the same root by code.
    sizes: float32 (N,), the sum over an item's terms; 1 where there are none.
    """

    frequent: Scores
    offsets: NDArray[np.int64]
    codes: NDArray[np.uint32]
    values: Scores
    sizes: Scores
    jaccard: bool
    idf: bool

    def similarity(self, rows: slice, columns: slice, out: Scores, spare: Scores) -> None:
        np.matmul(self.frequent[rows], self.frequent[columns].T, out=out)
        if len(self.codes):
            self._add_rare(rows, columns, out)
        if self.jaccard:
            np.add.outer(self.sizes[rows], self.sizes[columns], out=spare)
            np.subtract(spare, out, out=spare)
        else:
            np.multiply.outer(self.sizes[rows], self.sizes[columns], out=spare)
            np.sqrt(spare, out=spare)
        np.divide(out, spare, out=out)
        if self.idf:
            np.minimum(out, 1.0, out=out)  # its sums are rounded

    def _add_rare(self, rows: slice, columns: slice, out: Scores) -> None:
        shared = np.intersect1d(self._codes(rows), self._codes(columns))
        for first in range(0, len(shared), _RARE_CHUNK):
            terms = shared[first : first + _RARE_CHUNK]
            out += self._dense(rows, terms) @ self._dense(columns, terms).T

    def _codes(self, rows: slice) -> NDArray[np.uint32]:
        return self.codes[self.offsets[rows.start] : self.offsets[rows.stop]]

    def _dense(self, rows: slice, terms: NDArray[np.uint32]) -> Scores:
        codes = self._codes(rows)
        items = np.repeat(np.arange(rows.stop - rows.start), np.diff(self.offsets[rows.start : rows.stop + 1]))
        places = np.minimum(np.searchsorted(terms, codes), len(terms) - 1)
        there = terms[places] == codes
        dense = np.zeros((rows.stop - rows.start, len(terms)), dtype=np.float32)
        dense[items[there], places[there]] = self.values[codes[there]]
        return dense


@dataclass(frozen=True)
class NumberFeature:
    """1 - |a - b| / range, the range being that of the whole catalogue; 1 if that is 0.

    Source: Gower, "A general coefficient of similarity and some of its properties", 1971.

    scaled: float32 (N,), in 0..1, NaN where there is no value.
    """

    scaled: Scores

    def similarity(self, rows: slice, columns: slice, out: Scores, spare: Scores) -> None:
        a, b = self.scaled[rows], self.scaled[columns]
        np.subtract.outer(a, b, out=out)
        np.abs(out, out=out)
        np.subtract(np.float32(1.0), out, out=out)
        out[np.isnan(a)] = 0.0
        out[:, np.isnan(b)] = 0.0


@dataclass(frozen=True)
class CategoryFeature:
    """1 if the values are equal, else 0 (the simple matching of Gower, 1971).

    codes: int32 (N,), equal where the values are; -1 where there is no value.
    """

    codes: NDArray[np.int32]

    def similarity(self, rows: slice, columns: slice, out: Scores, spare: Scores) -> None:
        a, b = self.codes[rows], self.codes[columns]
        np.equal.outer(np.where(a < 0, np.int32(-2), a), b, out=out, casting="unsafe")


@dataclass(frozen=True)
class VectorFeature:
    """Cosine of the angle between two vectors, in -1..1: a . b / (|a| |b|).

    Source: Salton and McGill, 1983. A vector of zeros has no direction and counts as absent.

    unit: float32 (N, D), each vector divided by its length; zeros where there is none.
    """

    unit: Scores

    def similarity(self, rows: slice, columns: slice, out: Scores, spare: Scores) -> None:
        np.matmul(self.unit[rows], self.unit[columns].T, out=out)
        np.clip(out, -1.0, 1.0, out=out)


class Scorer:
    """Scores of N items: the weighted mean of the similarities of the features that both have.

    score(a, b) = sum of weight x similarity / sum of weight, over the features present in a and in b; no pair where
    there is none (Gower, 1971).

    features (F,) with float weights (F,) > 0; masks: uint64 (N,), bit f set where the item has feature f.
    """

    def __init__(self, features: list[Feature], weights: NDArray[np.float64], masks: NDArray[np.uint64]) -> None:
        self.items = len(masks)
        self.tiles = -(-self.items // TILE)
        self._features = features
        self._weights = (weights / weights.sum()).astype(np.float32)
        self._kinds, kind_of = np.unique(masks, return_inverse=True)
        self._kind_of: NDArray[np.intp] = kind_of
        self._shared = self._weights_shared(self._kinds, self._kinds) if len(self._kinds) <= _MANY_KINDS else None

    def row(self, tile: int, order: Iterable[int]) -> Iterator[tuple[int, Scores]]:
        """The tiles of one row of tiles: first column and scores float32 (R, C), NaN where there is no pair.

        order: which tiles. What is yielded is overwritten by the next one. May run in several threads at a time.
        """
        buffers = [np.empty(TILE * TILE, dtype=np.float32) for _ in range(3)]
        for other in order:
            upper = self._upper(min(tile, other), max(tile, other), buffers)
            yield other * TILE, upper if tile <= other else upper.T

    def _slice(self, tile: int) -> slice:
        return slice(tile * TILE, min((tile + 1) * TILE, self.items))

    def _upper(self, i: int, j: int, buffers: list[Scores]) -> Scores:
        rows, columns = self._slice(i), self._slice(j)
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        total, part, spare = (buffer[: shape[0] * shape[1]].reshape(shape) for buffer in buffers)
        for f, feature in enumerate(self._features):
            target = part if f else total
            feature.similarity(rows, columns, target, spare)
            np.multiply(target, self._weights[f], out=target)
            if f:
                np.add(total, part, out=total)
        with np.errstate(invalid="ignore"):
            np.divide(total, self._weight_shared(rows, columns), out=total)
        np.add(total, 0.0, out=total)  # no negative zeros
        if i == j:
            lower = np.tril_indices(len(total), -1)
            total[lower] = total.T[lower]
            np.fill_diagonal(total, np.nan)
        return total

    def _weight_shared(self, rows: slice, columns: slice) -> Scores:
        """The sum of weights of the features that both have: float32 (R, C), or (1, 1) where all are alike."""
        of_a, of_b = self._kind_of[rows], self._kind_of[columns]
        if self._shared is not None:
            weights = self._shared
        else:
            a, of_a = np.unique(of_a, return_inverse=True)
            b, of_b = np.unique(of_b, return_inverse=True)
            weights = self._weights_shared(self._kinds[a], self._kinds[b])
        return weights if weights.size == 1 else weights[:, of_b][of_a]

    def _weights_shared(self, a: NDArray[np.uint64], b: NDArray[np.uint64]) -> Scores:
        """The same for masks a (K,) and b (L,), summed in the order in which similarities are.

        So the score of a pair that is alike in every feature is exactly 1.
        """
        both = np.bitwise_and.outer(a, b)
        weights = np.zeros(both.shape, dtype=np.float32)
        for f, weight in enumerate(self._weights):
            weights += weight * ((both >> np.uint64(f)) & np.uint64(1)).astype(np.float32)
        return weights


def shared_counts(masks: NDArray[np.uint64], features: int) -> NDArray[np.int64]:
    """With how many others each item shares one of so many features: int64 (N,)."""
    kinds, kind_of, counts = np.unique(masks, return_inverse=True, return_counts=True)
    if np.bitwise_and.reduce(kinds):
        return np.full(len(masks), len(masks) - 1)  # one that all have
    if features <= _SUMMED:
        within = np.zeros(1 << features, dtype=np.int64)  # items whose features are all in a mask: sums over subsets
        within[kinds] = counts
        for feature in range(features):
            halves = within.reshape(-1, 2, 1 << feature)
            halves[:, 1] += halves[:, 0]
        apart = within[~kinds & np.uint64(len(within) - 1)]
    else:
        apart = np.array([counts[(kind & kinds) == 0].sum() for kind in kinds])
    found: NDArray[np.int64] = (len(masks) - apart - (kinds != 0))[kind_of]
    return found
