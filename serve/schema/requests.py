"""HTTP requests: what the OpenAPI document says of them and pydantic checks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypedDict

from pydantic import (
    Discriminator,
    Field,
    FiniteFloat,
    SkipValidation,
    StrictBool,
    StrictInt,
    StrictStr,
    Tag,
    WithJsonSchema,
)

from simshard.serve.schema.filters import Boost, GivenFilter
from simshard.serve.schema.values import (
    Id,
    IdText,
    Model,
    Text,
)
from simshard.shards.strategy_names import DEFAULT_STRATEGY, StrategyName

MAX_SEEDS = 256  # so many multiples of 2^-44 P add up without error in a float64 (see simshard.shards.query)
MAX_LIMIT = 1000
MAX_DEPTH = 10_000
MAX_BATCH = 1000
MAX_BATCH_HITS = 100_000
MAX_BULK = 1_000_000
MAX_VALUES = 1000  # of each attribute

Limit = Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT, description="Most hits to answer.")]


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

    id: IdText


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


# The same for callers in Python, who write plain values: a test compares their names.
FilterArgument = Mapping[str, Any] | str
SeedArgument = int | str | Mapping[str, Any]


class ScoringArguments(TypedDict, total=False):
    """What every query of hits may say; see docs/queries.md."""

    filter: FilterArgument | None
    boost: Sequence[Mapping[str, Any]]
    score_threshold: float | None
    explain: bool
    with_payload: bool
    snapshot: str | None
    timeout_ms: int


class HitArguments(ScoringArguments, total=False):
    """What a query of hits from all items may say."""

    limit: int
    offset: int
    exclude_ids: Sequence[int | str]
    diversity: float
    group_by: str | None
    group_size: int
    fallback: Mapping[str, Any] | None


class RecommendArguments(HitArguments, total=False):
    """What a query with many seeds may say."""

    negative: Sequence[SeedArgument]
    strategy: StrategyName


class RankArguments(ScoringArguments, total=False):
    """What a ranking may say."""

    negative: Sequence[SeedArgument]
    strategy: StrategyName


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


class FindRequest(Model):
    """The parameters of GET /v1/items."""

    q: Annotated[
        Text,
        Field(
            max_length=200,
            description="Beginnings of words of the title, in any case, without accents; or an id. None: all.",
        ),
    ] = ""
    limit: Limit = 10


class AttributesRequest(Model):
    """The parameters of GET /v1/attributes."""

    values: Annotated[StrictInt, Field(ge=0, le=MAX_VALUES, description="Most values to list of each attribute.")] = 100


class ScoreRequest(Model):
    """The parameters of GET /v1/score."""

    a: IdText
    b: IdText
