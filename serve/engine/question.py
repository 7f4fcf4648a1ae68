"""Requests -> questions: ids become rows of one snapshot, options are checked, a key tells each from every other."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from simshard.serve.engine.named_filters import NamedFilters
from simshard.serve.engine.table import Table
from simshard.serve.schema.requests import (
    MAX_DEPTH,
    MAX_SEEDS,
    HitOptions,
    Liking,
    RankRequest,
    RecommendRequest,
    Scoring,
    Seed,
    SimilarRequest,
)
from simshard.serve.schema.values import Id
from simshard.shards.errors import InvalidQuery, UnknownItem
from simshard.shards.plain_values import plain_id
from simshard.shards.query import Query, Selection, rounding_for
from simshard.shards.strategies import DEFAULT, Strategy, strategy_named

CacheClass = Literal["similar", "recommend"]

_NONE = np.empty(0, dtype=np.int64)
_IS_CHEAP = {"cheap": True}  # of a field that the best stored beside one row answers as well


@dataclass(frozen=True)
class Seeds:
    """Known seeds in the order of the request, and the ids of the unknown ones."""

    rows: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()
    negative: tuple[bool, ...] = ()
    missing: tuple[int | str, ...] = ()

    def in_row_order(self) -> Seeds:
        """The same seeds by ascending row."""
        return seeds_of(sorted(zip(self.rows, self.weights, self.negative, strict=True)), self.missing)


def seeds_of(known: Sequence[tuple[int, float, bool]], missing: tuple[int | str, ...]) -> Seeds:
    """Seeds of row, weight and whether it is negative, and the ids of unknown ones."""
    rows, weights, negative = zip(*known, strict=True) if known else ((), (), ())
    return Seeds(rows, weights, negative, missing)


@dataclass(frozen=True)
class Question:
    """What is asked of a snapshot. Filters stand as canonical text; what is compared is in the answer's cache key.

    candidates: the rows to put in order; None: all items. fallback: an attribute, and whether larger comes first.
    """

    seeds: Seeds = field(metadata=_IS_CHEAP)
    limit: int = field(metadata=_IS_CHEAP)
    offset: int = field(default=0, metadata=_IS_CHEAP)
    strategy: Strategy = field(default=DEFAULT, metadata=_IS_CHEAP)
    exclude: tuple[int, ...] = field(default=(), metadata=_IS_CHEAP)
    candidates: tuple[int, ...] | None = None
    score_threshold: float | None = field(default=None, metadata=_IS_CHEAP)
    filter: str = field(default="", metadata=_IS_CHEAP)
    boosts: tuple[tuple[str, float], ...] = ()
    diversity: float = 0.0
    group_by: str | None = None
    group_size: int = 1
    fallback: tuple[str, bool] | None = None
    explain: bool = False
    with_payload: bool = field(default=True, metadata=_IS_CHEAP)
    timeout_ms: int = field(default=1000, compare=False)

    @property
    def kind(self) -> CacheClass:
        """The class that it belongs to for the cache: "similar" is read from the best stored beside one row."""
        return "similar" if self.seeds.negative == (False,) and self == self.without_costly() else "recommend"

    def without_costly(self) -> Question:
        """The same with what costs more than the best of one row left out: all fields but those marked as cheap."""
        return Question(**{name: getattr(self, name) for name in _CHEAP})

    def query(self, table: Table, selection: Selection | None, factors: NDArray[np.float64] | None) -> Query:
        """The question as shards understand it. Raises InvalidQuery for weights and boosts that are too large."""
        weights = np.array(self.seeds.weights)
        largest = math.prod(max(factor, 1.0) for _, factor in self.boosts)
        manifest = table.snapshot.manifest
        return Query(
            rows=np.array(self.seeds.rows, dtype=np.uint32),
            weights=weights,
            negative=np.array(self.seeds.negative, dtype=np.bool_),
            exclude=np.array(sorted({*self.seeds.rows, *self.exclude}), dtype=np.uint32),
            limit=self.limit,
            offset=self.offset,
            strategy=self.strategy,
            score_threshold=self.score_threshold,
            rounding=rounding_for(weights, manifest.score_abs_max, largest, manifest.score_abs_min),
            selection=selection,
            factors=factors,
        )


_CHEAP = tuple(each.name for each in fields(Question) if each.metadata.get("cheap"))


def row_of(table: Table, id_: int | str) -> int:
    """The row of an id. Raises UnknownItem."""
    row = table.items.row(id_)
    if row is None:
        raise unknown(table, id_)
    return row


def unknown(table: Table, id_: int | str) -> UnknownItem:
    """The error for an id that a snapshot does not have."""
    return UnknownItem(f"item {id_!r} is not in snapshot {table.name}")


def ask_similar(table: Table, filters: NamedFilters, request: SimilarRequest) -> Question:
    """What is similar to an item. Raises UnknownItem, unless there is a fallback, and InvalidQuery."""
    row = table.items.row(request.id)
    if row is None and request.fallback is None:
        raise unknown(table, request.id)
    seeds = Seeds(missing=(request.id,)) if row is None else Seeds((row,), (1.0,), (False,))
    return _of_options(Question(seeds, request.limit), table, filters, request)


def ask_recommend(table: Table, filters: NamedFilters, request: RecommendRequest) -> Question:
    """What goes with these items. Raises UnknownItem, unless there is a fallback, and InvalidQuery."""
    seeds = _seeds(table, request, request.fallback is None)
    if not request.explain:
        seeds = seeds.in_row_order()  # one cache entry for all orders; an explanation keeps the request's
    question = Question(seeds, request.limit, strategy=strategy_named(request.strategy))
    return _of_options(question, table, filters, request)


def ask_rank(table: Table, filters: NamedFilters, request: RankRequest) -> Question:
    """The candidates in order for the seeds. Raises UnknownItem and InvalidQuery."""
    seeds = _seeds(table, request, True)
    rows = _look_up(table, request.candidates, "candidates[{}]".format)
    missing = tuple(plain_id(id_) for row, id_ in zip(rows, request.candidates, strict=True) if row is None)
    seeds = replace(seeds, missing=seeds.missing + missing)
    known = tuple(row for row in rows if row is not None)
    question = Question(seeds, max(len(known), 1), strategy=strategy_named(request.strategy), candidates=known)
    return _of_scoring(question, filters, request)


def _of_options(question: Question, table: Table, filters: NamedFilters, options: HitOptions) -> Question:
    if options.offset + options.limit > MAX_DEPTH:
        raise InvalidQuery("offset", f"offset + limit is {options.offset + options.limit}, at most {MAX_DEPTH}")
    if options.diversity and options.offset:
        raise InvalidQuery("offset", "diversity orders the first page only; ask for a larger limit instead")
    if options.group_size != 1 and options.group_by is None:
        raise InvalidQuery("group_size", "there is no group_by that it could be of")
    rows = table.items.find_all(options.exclude_ids) if options.exclude_ids else _NONE
    fallback = options.fallback
    return _of_scoring(
        question,
        filters,
        options,
        offset=options.offset,
        exclude=tuple(np.unique(rows[rows >= 0]).tolist()) if len(rows) else (),
        diversity=options.diversity,
        group_by=options.group_by,
        group_size=options.group_size,
        fallback=None if fallback is None else (fallback.order_by, fallback.direction == "desc"),
    )


def _of_scoring(question: Question, filters: NamedFilters, options: Scoring, **others: Any) -> Question:
    return replace(
        question,
        **others,
        score_threshold=options.score_threshold,
        filter=filters.text(options.filter),
        boosts=filters.boosts(options.boost),
        explain=options.explain,
        with_payload=options.with_payload,
        timeout_ms=options.timeout_ms,
    )


def _look_up(table: Table, ids: Sequence[Id], place: Callable[[int], str]) -> list[int | None]:
    """The row of each id, None for unknown ones. Raises InvalidQuery, naming the place, for an id given twice."""
    rows = [None if row < 0 else row for row in table.items.find_all(ids).tolist()]
    same = [str(id_) if row is None else row for id_, row in zip(ids, rows, strict=True)]
    if len(set(same)) < len(same):
        seen: set[int | str] = set()
        second = next(i for i, each in enumerate(same) if each in seen or seen.add(each))  # type: ignore[func-returns-value]
        raise InvalidQuery(place(second), f"id {ids[second]!r} is given twice")
    return rows


def _seeds(table: Table, request: Liking, needs_positive: bool) -> Seeds:
    if len(request.positive) + len(request.negative) > MAX_SEEDS:
        raise InvalidQuery("negative", f"more than {MAX_SEEDS} seeds in all")
    given = [
        (seed.id, seed.weight) if isinstance(seed, Seed) else (seed, 1.0)
        for seed in (*request.positive, *request.negative)
    ]
    positive = len(request.positive)

    def place(i: int) -> str:
        return f"positive[{i}]" if i < positive else f"negative[{i - positive}]"

    rows = _look_up(table, [id_ for id_, _ in given], place)
    if needs_positive and all(row is None for row in rows[:positive]):
        raise UnknownItem(f"none of the positive ids is in snapshot {table.name}")
    both = list(enumerate(zip(rows, given, strict=True)))
    known = [(row, weight, i >= positive) for i, (row, (_, weight)) in both if row is not None]
    return seeds_of(known, tuple(plain_id(id_) for _, (row, (id_, _)) in both if row is None))
