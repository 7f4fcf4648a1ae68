"""HTTP requests: what the OpenAPI document says of them and pydantic checks."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    FiniteFloat,
    SkipValidation,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
    model_validator,
)

from simshard.shards.strategy_names import DEFAULT_STRATEGY, StrategyName

TEXT_PARAMETERS = ("id", "a", "b", "q", "group_by", "snapshot")  # of a query string; all others are JSON
MAX_SEEDS = 256  # so many multiples of 2^-44 P add up without error in a float64 (see simshard.shards.query)
MAX_LIMIT = 1000
MAX_DEPTH = 10_000
MAX_BATCH = 1000
MAX_BATCH_HITS = 100_000
MAX_BULK = 1_000_000
FILTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")


NO_TEXT = "half of a surrogate pair is no text"


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which JSON's escapes do not promise."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_text(value: Any) -> Any:
    if isinstance(value, str) and not is_text(value):
        raise ValueError(NO_TEXT)
    return value


def _check_id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an id is an integer or text")
    return _check_text(value)


def _check_value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a value is a number or text")
    return _check_finite(_check_text(value))


def _check_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is needed")
    return _check_finite(value)


def _check_finite(value: Any) -> Any:
    try:
        finite = isinstance(value, str) or math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("a finite number is needed")
    beyond = (
        isinstance(value, int) and not -(2**63) <= value < 2**64
    )  # of what any column holds, and JSON writers write
    return float(value) if beyond else value


def _check_filter_name(value: Any) -> Any:
    if isinstance(value, str) and not FILTER_NAME.fullmatch(value):
        raise ValueError("a filter is an object, or the name of one: letters, digits, - and _")
    return value


Id = Annotated[int | str, BeforeValidator(_check_id)]
Value = Annotated[int | float | str, BeforeValidator(_check_value)]
Number = Annotated[int | float, BeforeValidator(_check_number)]
Text = Annotated[StrictStr, BeforeValidator(_check_text)]
FilterName = Annotated[StrictStr, Field(pattern=f"^{FILTER_NAME.pattern}$")]
Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT, description="Most hits to answer.")]


class Model(BaseModel):
    """A part of a request: no field that is not known, nothing changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _exactly_one(self, *names: str) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(name.rstrip("_") for name in names)
            raise ValueError(f"exactly one of {known} is needed" + (f", not {len(given)}" if given else ""))


class Match(Model):
    """One of: equal to `value`; equal to any of these; with values, but none of these (`except`)."""

    value: Value | None = None
    any: Annotated[list[Value], Field(max_length=MAX_LIMIT)] | None = None
    except_: Annotated[list[Value], Field(max_length=MAX_LIMIT)] | None = Field(default=None, alias="except")

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
    BeforeValidator(_check_filter_name),
]


class Boost(Model):
    """The scores of the items that pass the filter are multiplied by the factor."""

    filter: GivenFilter
    factor: Annotated[FiniteFloat, Field(ge=1e-6, le=1e6, strict=True)]


class Fallback(Model):
    """Items by a number that they have, to fill up with where hits run out."""

    order_by: Text
    direction: Literal["desc", "asc"] = "desc"


class Scoring(Model):
    """What every query of hits may say."""

    filter: Annotated[GivenFilter | None, Field(description="Which items can be hits.")] = None
    boost: list[Boost] = Field(default_factory=list, max_length=16, description="Factors on scores, by filter.")
    score_threshold: Annotated[FiniteFloat, Field(strict=True, description="Least score of a hit.")] | None = None
    explain: Annotated[StrictBool, Field(description="Name what adds up to each score.")] = False
    with_payload: Annotated[StrictBool, Field(description="Answer title and attributes too.")] = True
    snapshot: Annotated[Text | None, Field(description="Stay on this snapshot; 409 when it is closed.")] = None
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=60_000, description="504 past it.")] = 1000


class HitOptions(Scoring):
    """What a query of hits from all items may say."""

    limit: Limit = 10
    offset: Annotated[
        StrictInt, Field(ge=0, le=MAX_DEPTH, description=f"Hits to skip; offset + limit <= {MAX_DEPTH}.")
    ] = 0
    exclude_ids: list[Id] = Field(default_factory=list, max_length=MAX_DEPTH, description="Items that are never hits.")
    diversity: Annotated[
        FiniteFloat, Field(ge=0, le=1, strict=True, description="0: by score alone; 1: by difference alone.")
    ] = 0.0
    group_by: Annotated[
        StrictStr | None, Field(description="Attribute of which each value is hit group_size times.")
    ] = None
    group_size: Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT, description="Hits for each value of group_by.")] = 1
    fallback: Annotated[Fallback | None, Field(description="Items to fill up with where hits run out.")] = None


class SimilarRequest(HitOptions):
    """The parameters of GET …/similar; `id` where it stands in no path."""

    id: Annotated[Text, Field(min_length=1, description="The item's id as text.")]


class Seed(Model):
    """An item that the query starts from."""

    id: Id
    weight: Annotated[FiniteFloat, Field(gt=0, strict=True)] = 1.0


GivenSeed = Annotated[
    Annotated[Id, Tag("<id>")] | Annotated[Seed, Tag("<seed>")],
    Discriminator(lambda value: "<seed>" if isinstance(value, dict | Seed) else "<id>"),
]


class Liking(Model):
    """Seeds liked and disliked."""

    positive: Annotated[list[GivenSeed], Field(min_length=1, max_length=MAX_SEEDS)]
    negative: Annotated[list[GivenSeed], Field(max_length=MAX_SEEDS)] = []
    strategy: StrategyName = DEFAULT_STRATEGY


class RecommendRequest(Liking, HitOptions):
    """Seeds liked and disliked, and what to answer."""


class RankRequest(Liking, Scoring):
    """Seeds liked and disliked, and the items to put in order."""

    candidates: Annotated[list[Id], Field(min_length=1, max_length=MAX_DEPTH)]


class BatchRequest(Model):
    """Requests of POST /v1/recommend, each checked and answered on its own."""

    requests: Annotated[
        list[
            Annotated[
                SkipValidation[Any],
                WithJsonSchema({"anyOf": [{"$ref": "#/components/schemas/RecommendRequest"}, {}]}),
            ]
        ],
        Field(min_length=1, max_length=MAX_BATCH),
    ]


class BulkOptions(Model):
    """What a query for many items at once may say beside their ids; ids x limit <= 1,000,000."""

    limit: Limit = 10
    lists: Annotated[StrictBool, Field(description="One row an id, with lists; else one a hit.")] = False
    filter: GivenFilter | None = None
    snapshot: Text | None = None
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=60_000)] = 10_000


class BulkRequest(BulkOptions):
    """Many items at once."""

    ids: Annotated[
        list[Any],
        WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "integer"}, {"type": "string"}]}}),
    ]
