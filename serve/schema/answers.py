"""HTTP answers: what the OpenAPI document says of them and the Python client gives."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from simshard.serve.schema.problems import Problem

AnsweredId = int | str


class Contribution(BaseModel):
    """What a seed (`id`), or a boost (its place in the request, and its factor), adds to a score."""

    contribution: float
    id: AnsweredId | None = None
    boost: int | None = None
    factor: float | None = None


class Hit(BaseModel):
    """An item of an answer; `source` is `fallback`, and there is no score, where it only fills up."""

    id: AnsweredId
    score: float | None
    source: Literal["fallback"] | None = None
    payload: dict[str, Any] | None = None
    explain: list[Contribution] | None = None


class Answer(BaseModel):
    """Hits, best first, of one snapshot; `partial` if the shards in `failed_shards` could not be asked.

    unranked_ids: of a ranking, the candidates that are no hits: seeds, without a pair with any seed, or kept out.
    """

    snapshot: str
    hits: list[Hit]
    missing_ids: list[AnsweredId]
    partial: bool
    failed_shards: list[int]
    unranked_ids: list[AnsweredId] | None = None


class Item(BaseModel):
    """One item of the catalogue."""

    snapshot: str
    id: AnsweredId
    title: str | None
    payload: dict[str, Any]
    hidden: bool


class FoundItem(BaseModel):
    """An item that was searched for."""

    id: AnsweredId
    title: str | None
    payload: dict[str, Any]


class FoundItems(BaseModel):
    """Items whose titles match, best first; `total` counts all of them."""

    snapshot: str
    items: list[FoundItem]
    total: int


class ValueCount(BaseModel):
    """A value, and how many items have it."""

    value: int | float | str
    count: int


class Attribute(BaseModel):
    """What values an attribute has: `present` items have one, `min` and `max` are those of numbers.

    values: the most frequent first, ties by value; of numbers only where all of them fit; of text none longer than 200
    characters, and none where every item has another. Integers beyond 2^53 are text, as ids are.
    """

    name: str
    type: Literal["string", "int64", "float64", "list<string>"]
    present: int
    distinct: int
    min: int | float | str | None
    max: int | float | str | None
    values: list[ValueCount]


class Attributes(BaseModel):
    """The attributes of all items of a snapshot, hidden ones too; `image` holds addresses of pictures."""

    snapshot: str
    items: int
    image: str | None
    attributes: list[Attribute]


class Score(BaseModel):
    """The score of one pair; null if there is none."""

    snapshot: str
    a: AnsweredId
    b: AnsweredId
    score: float | None


class HiddenState(BaseModel):
    """Whether an item is hidden now, and the version of the list of hidden items."""

    id: AnsweredId
    hidden: bool
    version: int


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


class Pointer(BaseModel):
    """The snapshot that is active now, and those before it, newest first."""

    active: str
    previous: list[str]


class Snapshots(BaseModel):
    """What the store holds; `serving` is the snapshot that this replica answers from, `open` those it can."""

    active: str | None
    serving: str | None
    open: list[str]
    previous: list[str]
    snapshots: list[SnapshotSummary]


class ShardHealth(BaseModel):
    """A shard: its rows, how this replica reads it, and where the actor is that holds it.

    host: as the machine calls itself; node: as Ray does. `away`: the actor did not answer when it was last asked, or
    does not have its shard open (`problem` says why); local reads go on without it.
    """

    shard: int
    row_start: int
    row_stop: int
    bytes: int
    transport: Literal["actor", "local"]
    host: str | None
    node: str | None
    state: Literal["ok", "away"]


class Health(BaseModel):
    """State of this replica; `problem` says why the active snapshot is not, or not yet, the one served, or what is
    away.
    """

    status: Literal["ok", "degraded", "unavailable"]
    version: str
    snapshot: str | None
    items: int | None
    pairs: int | None
    shards: list[ShardHealth]
    cache: dict[str, Any]
    hidden: int
    problem: str | None


class Batch(BaseModel):
    """An answer, or a problem in its place, for each request, in order."""

    responses: list[Answer | Problem]
