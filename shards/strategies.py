"""How the contributions of several seeds become one score: one object for each strategy, found by its name.

A new strategy is a class here, an entry in `STRATEGIES` and a name in `strategy_names`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.shards.errors import InvalidQuery
from simshard.shards.strategy_names import DEFAULT_STRATEGY, StrategyName

Scores = NDArray[np.float32]
Values = NDArray[np.float64]
Mask = NDArray[np.bool_]
Columns = tuple[Values, ...]
_NONE = np.empty(0)


def contribution(scores: Scores, weight: float, rounding: float) -> Values:
    """Weight x score of one seed, rounded (see `rounding_for`), also of a negative one; float64, shape of `scores`."""
    values = scores.astype(np.float64)
    values *= weight
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
    """What makes one score of the contributions of the seeds that a candidate has pairs with.

    columns: what a Partial holds of each candidate. is_sum: whether the score is the sum of the contributions, those of
    negative seeds negated, in one column. A positive seed alone must score its contribution, whatever the strategy:
    such hits are read from the best that is stored beside its row.
    """

    __slots__ = ()  # nothing that could change
    name: StrategyName
    columns: tuple[Column, ...]
    is_sum = False

    def __repr__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Callable[[str], Strategy], tuple[str]]:  # the name alone travels to the actors
        return strategy_named, (self.name,)

    @abstractmethod
    def accumulate(
        self,
        columns: Columns,
        scores: Scores,
        used: Mask | None,
        scratch: Values,
        weight: float,
        negative: bool,
        rounding: float,
    ) -> None:
        """Combine the contribution of one seed into the columns (M,), in place.

        scores: its scores (M,), +0.0 where there is no pair; used: bool (M,), where there is one; None: everywhere.
        scratch: float64 (M,), may be overwritten.
        """

    @abstractmethod
    def spread(self, parts: Sequence[Values], negative: Mask) -> Columns:
        """The columns of single contributions, one after another.

        parts: those of each of the S seeds, as many as it has, which may be overwritten; negative: bool (S,).
        """

    @abstractmethod
    def finish(self, columns: Columns) -> Values:
        """The scores (M,) of candidates from their columns, (M,) each."""

    @abstractmethod
    def scale(self, weights: Values) -> float:
        """What a score is divided by to compare with that of a pair; weights: of the positive seeds, at least one."""

    @abstractmethod
    def shares(self, there: Mask, values: Values, negative: Mask) -> tuple[Mask, Values]:
        """Which seeds make up the score of each hit, bool (S, H), and what each of them gives to it: they sum up.

        there: bool (S, H), which pairs there are; values: float64 (S, H), contributions; negative: bool (S,).
        """


class SumScores(Strategy):
    """The sum of the contributions of positive seeds, minus the same of negative ones."""

    __slots__ = ()
    name: StrategyName = "sum_scores"
    columns = (Column(np.add, 0.0),)
    is_sum = True

    def accumulate(
        self,
        columns: Columns,
        scores: Scores,
        used: Mask | None,
        scratch: Values,
        weight: float,
        negative: bool,
        rounding: float,
    ) -> None:
        (sums,) = columns  # to which no pair adds 0, so `used` is not looked at
        add = np.subtract if negative else np.add
        if weight == 1.0 and not rounding:
            add(sums, scores, out=sums)
            return
        np.multiply(scores, weight, out=scratch, dtype=np.float64)
        if rounding:
            scratch += rounding
            scratch -= rounding
        add(sums, scratch, out=sums)

    def spread(self, parts: Sequence[Values], negative: Mask) -> Columns:
        for seed in np.flatnonzero(negative).tolist():
            np.negative(parts[seed], out=parts[seed])
        return (np.concatenate((_NONE, *parts)),)

    def finish(self, columns: Columns) -> Values:
        return columns[0]

    def scale(self, weights: Values) -> float:
        return float(weights.sum())

    def shares(self, there: Mask, values: Values, negative: Mask) -> tuple[Mask, Values]:
        return there, np.where(negative[:, None], -values, values)


class BestScore(Strategy):
    """The best contribution of a positive seed, unless that of a negative one is higher: then minus that one.

    columns: the best of positive seeds and the best of negative ones.
    """

    __slots__ = ()
    name: StrategyName = "best_score"
    columns = (Column(np.maximum, -np.inf), Column(np.maximum, -np.inf))

    def accumulate(
        self,
        columns: Columns,
        scores: Scores,
        used: Mask | None,
        scratch: Values,
        weight: float,
        negative: bool,
        rounding: float,
    ) -> None:
        column, values = columns[int(negative)], contribution(scores, weight, rounding)
        np.maximum(column, values, out=column, where=True if used is None else used)

    def spread(self, parts: Sequence[Values], negative: Mask) -> Columns:
        values, against = np.concatenate((_NONE, *parts)), np.repeat(negative, [len(part) for part in parts])
        return np.where(against, -np.inf, values), np.where(against, values, -np.inf)

    def finish(self, columns: Columns) -> Values:
        positive, negative = columns
        return np.where(negative > positive, -negative, positive)

    def scale(self, weights: Values) -> float:
        return float(weights.max())

    def shares(self, there: Mask, values: Values, negative: Mask) -> tuple[Mask, Values]:
        """Of each hit the one seed whose score it has."""
        known = np.where(there, values, -np.inf)
        best_positive = np.where(negative[:, None], -np.inf, known).argmax(axis=0)
        best_negative = np.where(negative[:, None], known, -np.inf).argmax(axis=0)
        hits = np.arange(there.shape[1])
        against = known[best_negative, hits] > np.where(negative[best_positive], -np.inf, known[best_positive, hits])
        against &= negative[best_negative]
        only = np.zeros_like(there)
        only[np.where(against, best_negative, best_positive), hits] = True
        return only & there, np.where(negative[:, None], -values, values)


STRATEGIES: Mapping[str, Strategy] = {each.name: each for each in (SumScores(), BestScore())}
DEFAULT = STRATEGIES[DEFAULT_STRATEGY]


def strategy_named(name: str) -> Strategy:
    """The strategy of this name. Raises InvalidQuery, with the names that there are."""
    try:
        return STRATEGIES[name]
    except KeyError:
        raise InvalidQuery("strategy", f"there is no {name!r}; there are {', '.join(STRATEGIES)}") from None
