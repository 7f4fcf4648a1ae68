"""An answer that is to be made: how, and under which key it is kept; and the answer as bytes."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from simshard.serve.engine.cache import FreshAnswer, Outcome
from simshard.serve.engine.cache_keys import entity_tag
from simshard.serve.engine.compiled_filters import CompiledFilters
from simshard.serve.engine.encode import encode
from simshard.serve.engine.pipeline import find_hits
from simshard.serve.engine.question import Question
from simshard.serve.engine.table import Table
from simshard.shards.hidden import Hidden

DEFAULT_TIMEOUT_MS = 1000
FEW_HITS = 50  # are encoded where they stand, more in a thread


@dataclass
class Trace:
    """How an answer was computed: milliseconds by stage, and the shards that were asked."""

    stages: dict[str, float] = field(default_factory=dict)
    shards: tuple[int, ...] = ()


Compute = Callable[[Hidden, Trace], Awaitable[FreshAnswer]]


@dataclass(frozen=True)
class AnswerJob:
    """A question to one snapshot, ready to be answered; `key` tells it from every other.

    kind: what it is to the cache, "" for what is never kept. asks_shards: whether an answer takes more than the items,
    so that one kept in Redis is nearer than shards on other nodes.
    """

    table: Table
    hidden: Hidden
    kind: str
    key: bytes
    compute: Compute
    asks_shards: bool
    timeout_ms: int = DEFAULT_TIMEOUT_MS

    @functools.cached_property
    def etag(self) -> str:
        """The entity tag of its answer: of snapshot, hidden items and question."""
        return entity_tag(self.key)


@dataclass
class EncodedAnswer:
    """An answer's JSON bytes, the snapshot that it is of, where it came from, and milliseconds by stage.

    etag: None for an answer that may not be kept, because a shard was away. shards: those that were asked for it now;
    none where it was kept, or computed for another request at the same time.
    """

    body: bytes
    snapshot: str
    etag: str | None
    outcome: Outcome
    stages: dict[str, float]
    shards: tuple[int, ...]


def hits_job(table: Table, question: Question, filters: CompiledFilters, pool: Executor) -> Compute:
    """What computes the answer."""
    missing, payload = question.seeds.missing, question.with_payload

    async def compute(hidden: Hidden, trace: Trace) -> FreshAnswer:
        begun = time.perf_counter()
        result = await find_hits(table, question, filters, hidden, pool)
        searched = time.perf_counter()
        if len(result.hits.rows) > FEW_HITS:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(pool, encode, table, result, missing, payload)
        else:
            body = encode(table, result, missing, payload)
        trace.stages["search"] = (searched - begun) * 1e3
        trace.stages["encode"] = (time.perf_counter() - searched) * 1e3
        trace.shards = result.shards
        return FreshAnswer(body, keep=not result.failed_shards)

    return compute
