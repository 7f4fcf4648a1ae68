"""HTTP request and response models: what the OpenAPI document says and pydantic checks."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, FiniteFloat, StrictInt, Tag

from simshard.shards.query import MAX_SEEDS


def _check_id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an id is an integer or text")
    return value


Id = Annotated[int | str, BeforeValidator(_check_id)]
MAX_LIMIT = 1000
MAX_DEPTH = 10_000

Limit = Annotated[int, Field(ge=1, le=MAX_LIMIT, description="Most hits to answer.")]
Offset = Annotated[int, Field(ge=0, le=MAX_DEPTH, description=f"Hits to skip; offset + limit <= {MAX_DEPTH}.")]
Threshold = Annotated[FiniteFloat | None, Field(description="Least score of a hit.")]


class Seed(BaseModel):
    """An item that the query starts from."""

    model_config = ConfigDict(extra="forbid")
    id: Id
    weight: Annotated[FiniteFloat, Field(gt=0, strict=True)] = 1.0


GivenSeed = Annotated[
    Annotated[Id, Tag("plain")] | Annotated[Seed, Tag("seed")],
    Discriminator(lambda value: "seed" if isinstance(value, dict | Seed) else "plain"),
]


class RecommendRequest(BaseModel):
    """Seeds liked and disliked, and what to answer."""

    model_config = ConfigDict(extra="forbid")
    positive: Annotated[list[GivenSeed], Field(min_length=1, max_length=MAX_SEEDS)]
    negative: Annotated[list[GivenSeed], Field(max_length=MAX_SEEDS)] = []
    strategy: Literal["sum_scores", "best_score"] = "sum_scores"
    limit: Annotated[StrictInt, Field(ge=1, le=MAX_LIMIT)] = 10
    offset: Annotated[StrictInt, Field(ge=0, le=MAX_DEPTH)] = 0
    score_threshold: Annotated[FiniteFloat, Field(strict=True)] | None = None
    exclude_ids: Annotated[list[Id], Field(max_length=MAX_DEPTH)] = []
    explain: bool = False
    with_payload: bool = True
    timeout_ms: Annotated[StrictInt, Field(ge=1, le=60_000)] = 1000


class Contribution(BaseModel):
    """What one seed adds to a score."""

    id: Id
    contribution: float


class Hit(BaseModel):
    """An item of an answer."""

    id: Id
    score: float
    payload: dict[str, Any] | None = None
    explain: list[Contribution] | None = None


class Answer(BaseModel):
    """Hits, best first, of one snapshot; `partial` if the shards in `failed_shards` could not be asked."""

    snapshot: str
    hits: list[Hit]
    missing_ids: list[Id]
    partial: bool
    failed_shards: list[int]


class Item(BaseModel):
    """One item of the catalogue."""

    snapshot: str
    id: Id
    title: str | None
    payload: dict[str, Any]


class FoundItem(BaseModel):
    """An item that was searched for."""

    id: Id
    title: str | None
    payload: dict[str, Any]


class FoundItems(BaseModel):
    """Items whose titles match, best first; `total` counts all of them."""

    snapshot: str
    items: list[FoundItem]
    total: int


class Score(BaseModel):
    """The score of one pair; null if there is none."""

    snapshot: str
    a: Id
    b: Id
    score: float | None


class SnapshotSummary(BaseModel):
    """A published snapshot."""

    name: str
    created: str
    encoding: Literal["dense", "sparse"]
    items: int
    pairs: int
    directed: bool
    shards: int
    bytes: int
    active: bool


class Snapshots(BaseModel):
    """What the store holds; `serving` is the snapshot that this replica answers from."""

    active: str | None
    serving: str | None
    previous: list[str]
    snapshots: list[SnapshotSummary]


class Health(BaseModel):
    """State of this replica; `problem` says why the active snapshot is not, or not yet, the one served."""

    status: Literal["ok", "degraded", "unavailable"]
    version: str
    snapshot: str | None
    items: int | None
    pairs: int | None
    shards: list[dict[str, Any]]
    cache: dict[str, Any]
    problem: str | None


class Problem(BaseModel):
    """RFC 9457 problem details; `field` names the part of the request at fault."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    field: str | None = None
