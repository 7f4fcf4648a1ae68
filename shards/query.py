"""What is asked of shards and what they answer: plain numpy, no Ray, no HTTP.

A `Query` goes to the shards that own its seeds. A shard that owns them all answers `Hits`;
otherwise each answers an untruncated `Partial`, and `merge` and `truncate` make the `Hits`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simshard.shards.errors import InvalidQuery
from simshard.shards.strategies import DEFAULT, Columns, Strategy

Rows = NDArray[np.uint32]

FEW = 4  # of so many rows one is left: then each candidate is looked at, else whole rows (docs/benchmarks.md)
MIN_WEIGHT = 1e-250  # its product with any float32 is a normal float64, so one weight never makes two scores equal
_MAX_FLOAT32 = float(np.finfo(np.float32).max)


class Selection:
    """Which rows can be hits: `mask` bool (N,), of which `count` are true.

    rows: uint32 ascending, the true ones, where they are so few that looking at each of them is faster than looking at
    whole rows of the matrix; else None.
    """

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.mask = mask
        self.count = int(np.count_nonzero(mask))
        few = self.count * FEW <= len(mask)
        self.rows: Rows | None = np.flatnonzero(mask).astype(np.uint32) if few else None

    @classmethod
    def of_rows(cls, rows: Rows, items: int) -> Selection:
        """The selection of these rows, uint32, of `items` rows."""
        mask = np.zeros(items, dtype=np.bool_)
        mask[rows] = True
        return cls(mask)

    @classmethod
    def _unpacked(cls, packed: NDArray[np.uint8], items: int) -> Selection:
        return cls(np.unpackbits(packed, count=items).view(np.bool_))

    def __reduce__(self) -> tuple[Any, ...]:  # an eighth of the mask travels to the actors
        if self.rows is not None and 32 * self.count < len(self.mask):
            return Selection.of_rows, (self.rows, len(self.mask))
        return Selection._unpacked, (np.packbits(self.mask), len(self.mask))

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.mask.nbytes + (0 if self.rows is None else self.rows.nbytes)


@dataclass(frozen=True)
class Query:
    """Seeds and how to turn their rows of scores into hits.

    rows: uint32 (S,), the seeds; weights: float64 (S,), > 0; negative: bool (S,).
    exclude: uint32 ascending, rows that are never hits (all seeds among them, also those of other shards).
    selection: the rows that can be hits; None: all. factors: float64 (N,), what the score of each row is multiplied by
    before hits are ordered, by `truncate` alone; None: 1.
    rounding: float64 added to and taken from every weight x score (see `rounding_for`); 0.0 rounds nothing.
    """

    rows: Rows
    weights: NDArray[np.float64]
    negative: NDArray[np.bool_]
    exclude: Rows
    limit: int
    offset: int = 0
    strategy: Strategy = DEFAULT
    score_threshold: float | None = None
    rounding: float = 0.0
    selection: Selection | None = None
    factors: NDArray[np.float64] | None = None

    def of_seeds(self, mask: NDArray[np.bool_]) -> Query:
        """What a shard that owns the seeds where `mask` (S,) is true is asked for its Partial."""
        rows, weights, negative = self.rows[mask], self.weights[mask], self.negative[mask]
        return replace(self, rows=rows, weights=weights, negative=negative, factors=None)

    def admits(self, rows: Rows) -> NDArray[np.bool_]:
        """Which of these rows can be hits: bool, shape of `rows`."""
        one = len(self.exclude) == 1  # the seed of most queries
        admitted: NDArray[np.bool_] = rows != self.exclude[0] if one else ~np.isin(rows, self.exclude)
        if self.selection is not None:
            admitted &= self.selection.mask[rows]
        return admitted


@dataclass(frozen=True)
class Partial:
    """What some seeds contribute to every candidate, untruncated.

    rows: uint32 (M,) ascending and unique, or None where the columns cover all N rows;
    present: bool (N,) for the latter: which rows have a pair with any seed.
    columns: float64, (M,) or (N,) each: those of the strategy.
    """

    strategy: Strategy
    rows: Rows | None
    present: NDArray[np.bool_] | None
    columns: Columns


@dataclass(frozen=True)
class Hits:
    """Rows uint32 (K,) with scores float64 (K,): score descending, ties by ascending row."""

    rows: Rows
    scores: NDArray[np.float64]


def rounding_for(
    weights: NDArray[np.float64], score_abs_max: float, factor: float = 1.0, score_abs_min: float = 0.0
) -> float:
    """The constant c for which (x + c) - c rounds x to a multiple of 2^-44 P, half to even.

    P is the smallest power of two >= the largest weight x `score_abs_max`. A sum of up to 256 such multiples fits
    float64's 53 bits, so it is exact in any order. Nothing needs rounding, 0.0, where there is one seed alone, and
    where weights are powers of two and no score is so small (`score_abs_min`, 0.0 if unknown) that its 24 bits reach
    below that unit.
    Source: the error-free split of Rump, Ogita and Oishi, "Accurate floating-point summation", 2008.

    factor: the largest number that sums will be multiplied by. Raises InvalidQuery for weights whose sums, times it, a
    float32 score, or whose unit a float64, could not hold.
    """
    largest = float(weights.max(initial=0.0)) * score_abs_max
    if float(weights.sum()) * score_abs_max * max(factor, 1.0) > _MAX_FLOAT32:
        place, names = ("boost", "weights and boosts") if factor > 1 else ("weight", "weights")
        raise InvalidQuery(place, f"the {names} are too large: a score would exceed the float32 range")
    if len(weights) and float(weights.min()) < MIN_WEIGHT:
        raise InvalidQuery("weight", f"a weight must be at least {MIN_WEIGHT}")
    if len(weights) < 2 or largest == 0.0:
        return 0.0
    mantissa, exponent = math.frexp(largest)
    if mantissa == 0.5:
        exponent -= 1
    mantissas, exponents = np.frexp(weights)
    if score_abs_min and (mantissas == 0.5).all():
        last_bit = int(exponents.min()) - 1 + math.frexp(score_abs_min)[1] - 24
        if last_bit >= exponent - 44:
            return 0.0
    return math.ldexp(1.5, exponent - 44 + 52)


def merge(partials: list[Partial]) -> Partial:
    """All partials of one query as one; associative, commutative and exact. Needs at least one."""
    return reduce(_merge_two, partials)


def _merge_two(a: Partial, b: Partial) -> Partial:
    kinds = a.strategy.columns
    if a.rows is None and b.rows is None:
        assert a.present is not None and b.present is not None
        columns = tuple(kind.combine(x, y) for kind, x, y in zip(kinds, a.columns, b.columns, strict=True))
        return Partial(a.strategy, None, a.present | b.present, columns)
    if a.rows is not None and b.rows is not None:
        rows = np.concatenate((a.rows, b.rows))
        columns = tuple(np.concatenate((x, y)) for x, y in zip(a.columns, b.columns, strict=True))
        return gather(a.strategy, rows, columns)
    dense, sparse = (a, b) if a.rows is None else (b, a)
    assert dense.present is not None and sparse.rows is not None
    present = dense.present.copy()
    present[sparse.rows] = True
    merged = []
    for kind, x, y in zip(kinds, dense.columns, sparse.columns, strict=True):
        spread = np.full(len(x), kind.fill)
        spread[sparse.rows] = y
        merged.append(kind.combine(x, spread))
    return Partial(a.strategy, None, present, tuple(merged))


def gather(strategy: Strategy, rows: Rows, columns: Columns) -> Partial:
    """A sparse Partial of contributions in any order: `rows` (M,) may repeat, equal rows are combined."""
    if not len(rows):
        return Partial(strategy, rows, None, columns)
    order = np.argsort(rows, kind="stable")
    ordered = rows[order]
    first = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    kinds = strategy.columns
    combined = tuple(kind.combine.reduceat(c[order], first) for kind, c in zip(kinds, columns, strict=True))
    return Partial(strategy, ordered[first], None, combined)


def truncate(partial: Partial, query: Query) -> Hits:
    """The hits of a query whose every seed is in `partial`: excludes out, threshold, order, offset and limit."""
    if partial.rows is None:
        assert partial.present is not None
        present = partial.present.copy() if query.selection is None else partial.present & query.selection.mask
        present[query.exclude] = False
        rows = np.flatnonzero(present).astype(np.uint32)
        columns = tuple(c[rows] for c in partial.columns)
    else:
        keep = query.admits(partial.rows)
        rows = partial.rows[keep]
        columns = tuple(c[keep] for c in partial.columns)
    scores = partial.strategy.finish(columns)
    if query.factors is not None:
        scores = scores * query.factors[rows]
    if query.score_threshold is not None:
        keep = at_least(scores, query.score_threshold)
        rows, scores = rows[keep], scores[keep]
    chosen = best(scores, query.offset + query.limit)[query.offset :]
    return Hits(rows[chosen], scores[chosen] + 0.0)


def at_least(scores: NDArray[np.float64] | NDArray[np.float32], threshold: float) -> NDArray[np.bool_]:
    """Which scores, as printed (nearest float32), reach the threshold as a float32: a printed score reaches itself."""
    with np.errstate(over="ignore"):
        return scores.astype(np.float32) >= np.float32(threshold)


def best(scores: NDArray[np.floating], count: int) -> NDArray[np.intp]:
    """Positions of the `count` largest scores, largest first, ties by ascending position; intp (min(count, M),).

    `argpartition` alone picks any of the tied ones, so the cut is by value, then by position. A threshold guessed
    from a sample makes the exact cut cheap; where the guess is too high, all scores are partitioned.
    """
    total = len(scores)
    if count <= 0:
        return np.empty(0, dtype=np.intp)
    if count >= total:
        return np.argsort(-scores, kind="stable")
    stride = total // (8 * count + 64)
    if stride > 3:
        sample = scores[::stride]
        rank = min(len(sample) - 1, 2 * count // stride + 4)
        guess = np.partition(sample, len(sample) - 1 - rank)[len(sample) - 1 - rank]
        above = np.flatnonzero(scores >= guess)
        if count <= len(above) < total:
            return above[best(scores[above], count)]
    cut = np.partition(scores, total - count)[total - count]
    above = np.flatnonzero(scores > cut)
    tied = np.flatnonzero(scores == cut)[: count - len(above)]
    chosen = np.concatenate((above, tied))
    return chosen[np.lexsort((chosen, -scores[chosen]))]
