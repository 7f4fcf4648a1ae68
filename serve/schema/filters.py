"""Filters and boosts of requests; what they mean is said in `simshard.shards.filters`."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BeforeValidator, Discriminator, Field, FiniteFloat, StrictBool, Tag, model_validator

from simshard.serve.schema.values import FilterName, Model, Number, Text, Value, check_filter_name

MAX_VALUES_OF_MATCH = 1000


class Match(Model):
    """One of: equal to `value`; equal to any of these; with values, but none of these (`except`)."""

    value: Value | None = None
    any: Annotated[list[Value], Field(max_length=MAX_VALUES_OF_MATCH)] | None = None
    except_: Annotated[list[Value], Field(max_length=MAX_VALUES_OF_MATCH)] | None = Field(default=None, alias="except")

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._exactly_one("value", "any", "except_")
        return self


class Range(Model):
    """Bounds of a number; at least one."""

    gt: Number | None = None
    gte: Number | None = None
    lt: Number | None = None
    lte: Number | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if all(value is None for _, value in self):
            raise ValueError("at least one of gt, gte, lt, lte is needed")
        return self


class Condition(Model):
    """What is asked of the attribute `key`: one of `match`, `range` and `is_null`; or a named `filter`."""

    key: Text | None = None
    match: Match | None = None
    range: Range | None = None
    is_null: StrictBool | None = None
    filter: FilterName | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        self._exactly_one("match", "range", "is_null", "filter")
        if (self.key is None) == (self.filter is None):
            raise ValueError("match, range and is_null need a key" if self.key is None else "a filter has no key")
        return self


Conditions = Annotated[list[Condition], Field(max_length=64)]


class Filter(Model):
    """Items that meet all of `must`, one of `should` if there are any, and none of `must_not`."""

    must: Conditions = []
    should: Conditions = []
    must_not: Conditions = []


GivenFilter = Annotated[
    Annotated[FilterName, Tag("<name>")] | Annotated[Filter, Tag("<conditions>")],
    Discriminator(lambda value: "<name>" if isinstance(value, str) else "<conditions>"),
    BeforeValidator(check_filter_name),
]


class Boost(Model):
    """The scores of the items that pass the filter are multiplied by the factor."""

    filter: GivenFilter
    factor: Annotated[FiniteFloat, Field(ge=1e-6, le=1e6, strict=True)]
