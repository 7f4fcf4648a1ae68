"""How the contributions of several seeds become one score: one object for each strategy, found by its name.

A new strategy is a class here, an entry in `STRATEGIES` and a name in `strategy_names`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.shards.errors import InvalidQuery
from simshard.shards.strategy_names import StrategyName

Columns = tuple[NDArray[np.float64], ...]


def weighted(
    scores: NDArray[np.float32], weight: float, rounding: float, out: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Weight x score, rounded (see `rounding_for`); float64, shape of `scores`. out: where to write it; None: anew."""
    values = np.multiply(scores, weight, out=out, dtype=np.float64)
    if rounding:
        values += rounding
        values -= rounding
    return values


class Column(NamedTuple):
    """One number of each candidate in a Partial: `combine` makes one of two, and changes nothing with `fill`.

    combine: a ufunc; associative, commutative and exact for contributions, so that shards may answer in any order.
    """

    combine: np.ufunc
    fill: float


class Strategy(ABC):
    """What makes one score of the contributions (weight x score, rounded) of the seeds that a candidate has pairs with.

    columns: what a Partial holds of each candidate. is_sum: the score is the sum of the contributions, negated for
    negative seeds, in one column. A positive seed alone must score its contribution, whatever the strategy: such hits
    are read from the best that is stored beside its row.
    """

    __slots__ = ()  # nothing to change
    name: StrategyName
    columns: tuple[Column, ...]
    is_sum = False

    @abstractmethod
    def of_seed(self, values: NDArray[np.float64], negative: bool) -> tuple[NDArray[np.float64] | None, ...]:
        """What the contributions of one seed (M,), which may be overwritten, give each column; None: nothing."""

    @abstractmethod
    def finish(self, columns: Columns) -> NDArray[np.float64]:
        """The scores of candidates (M,) from their columns, (M,) each."""

    @abstractmethod
    def scale(self, weights: NDArray[np.float64]) -> float:
        """What a score is divided by to compare with that of a pair; weights: of the positive seeds, at least one."""

    @abstractmethod
    def shares(
        self, there: NDArray[np.bool_], values: NDArray[np.float64], negative: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which seeds make up the score of each hit, bool (S, H), and what each of them gives to it: they sum up.

        there: bool (S, H), which pairs there are; values: float64 (S, H), contributions; negative: bool (S,).
        """

    def accumulate(
        self,
        columns: Columns,
        scores: NDArray[np.float32],
        used: NDArray[np.bool_] | None,
        weight: float,
        negative: bool,
        rounding: float,
        scratch: NDArray[np.float64],
    ) -> None:
        """Combine one seed into the columns (M,), in place.

        scores: its scores (M,), +0.0 where there is no pair; used: bool (M,), where there is one; None: everywhere.
        scratch: float64 (M,), overwritten.
        """
        parts = self.of_seed(weighted(scores, weight, rounding, scratch), negative)
        for column, (combine, _), part in zip(columns, self.columns, parts, strict=True):
            if part is not None:
                combine(column, part, out=column, where=True if used is None else used)


class SumScores(Strategy):
    """The sum of the contributions of positive seeds, minus the same of negative ones."""

    __slots__ = ()
    name: StrategyName = "sum_scores"
    columns = (Column(np.add, 0.0),)
    is_sum = True

    def of_seed(self, values: NDArray[np.float64], negative: bool) -> tuple[NDArray[np.float64], ...]:
        return (np.negative(values, out=values) if negative else values,)

    def finish(self, columns: Columns) -> NDArray[np.float64]:
        return columns[0]

    def scale(self, weights: NDArray[np.float64]) -> float:
        return float(weights.sum())

    def shares(
        self, there: NDArray[np.bool_], values: NDArray[np.float64], negative: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        return there, _signed(values, negative)

    def accumulate(
        self,
        columns: Columns,
        scores: NDArray[np.float32],
        used: NDArray[np.bool_] | None,
        weight: float,
        negative: bool,
        rounding: float,
        scratch: NDArray[np.float64],
    ) -> None:
        sums = columns[0]  # to which no pair adds 0, so `used` is not looked at
        add = np.subtract if negative else np.add
        if weight == 1.0 and not rounding:
            add(sums, scores, out=sums)
        else:
            add(sums, weighted(scores, weight, rounding, scratch), out=sums)


class BestScore(Strategy):
    """The best contribution of a positive seed, unless that of a negative one is higher: then minus that one.

    columns: the best of positive seeds and the best of negative ones.
    """

    __slots__ = ()
    name: StrategyName = "best_score"
    columns = (Column(np.maximum, -np.inf), Column(np.maximum, -np.inf))

    def of_seed(self, values: NDArray[np.float64], negative: bool) -> tuple[NDArray[np.float64] | None, ...]:
        return (None, values) if negative else (values, None)

    def finish(self, columns: Columns) -> NDArray[np.float64]:
        positive, negative = columns
        return np.where(negative > positive, -negative, positive)

    def scale(self, weights: NDArray[np.float64]) -> float:
        return float(weights.max())

    def shares(
        self, there: NDArray[np.bool_], values: NDArray[np.float64], negative: NDArray[np.bool_]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Of each hit the one seed whose score it has."""
        known = np.where(there, values, -np.inf)
        best_positive = np.where(negative[:, None], -np.inf, known).argmax(axis=0)
        best_negative = np.where(negative[:, None], known, -np.inf).argmax(axis=0)
        hits = np.arange(there.shape[1])
        against = known[best_negative, hits] > np.where(negative[best_positive], -np.inf, known[best_positive, hits])
        against &= negative[best_negative]
        only = np.zeros_like(there)
        only[np.where(against, best_negative, best_positive), hits] = True
        return only & there, _signed(values, negative)


def _signed(values: NDArray[np.float64], negative: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The contributions (S, H), those of negative seeds negated."""
    return np.where(negative[:, None], -values, values)


STRATEGIES: Mapping[str, Strategy] = {each.name: each for each in (SumScores(), BestScore())}


def strategy_named(name: str) -> Strategy:
    """The strategy of this name. Raises InvalidQuery, with the names that there are."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise InvalidQuery("strategy", f"there is no {name!r}; there are {', '.join(STRATEGIES)}") from None
