"""Requests -> questions -> cache -> pipeline: every answer of the service as bytes, without HTTP or Ray."""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from simshard.serve.engine.answer_job import DEFAULT_TIMEOUT_MS, AnswerJob, Compute, EncodedAnswer, Trace, hits_job
from simshard.serve.engine.bulk import GivenIds, nearest_table
from simshard.serve.engine.cache import Cache, FreshAnswer, Outcome
from simshard.serve.engine.cache_keys import answer_key, question_text
from simshard.serve.engine.compiled_filters import CompiledFilters
from simshard.serve.engine.free_memory import Releasing
from simshard.serve.engine.named_filters import NamedFilters
from simshard.serve.engine.open_tables import OpenTables
from simshard.serve.engine.question import Question, ask_rank, ask_recommend, ask_similar, row_of
from simshard.serve.engine.router import pair_scores
from simshard.serve.engine.table import Table
from simshard.serve.engine.title_search import find_items
from simshard.serve.schema.requests import (
    MAX_VALUES,
    BulkOptions,
    BulkRequest,
    RankRequest,
    RecommendRequest,
    SimilarRequest,
)
from simshard.shards.attributes import describe_attributes, shorten
from simshard.shards.errors import (
    DeadlineExceeded,
    InvalidFilter,
    InvalidQuery,
    ShardUnavailable,
    SimshardError,
)
from simshard.shards.hidden import Hidden

Log = logging.getLogger("simshard.service")

_SLOW_TIMEOUT_MS = 10_000  # where every item is looked at
_NAMES_ATTRIBUTES = re.compile(r"filter\b|boost\[\d+\]\.filter\b|group_by$|fallback\.order_by$")


class Service(OpenTables):
    """Answers from the table that is served, and from older ones that are still open."""

    def __init__(
        self,
        cache: Cache,
        pool: Executor,
        redis_classes: frozenset[str] = frozenset(),
        filters: Mapping[str, Any] | None = None,
        default_filter: str | None = None,
    ) -> None:
        super().__init__()
        self._named_filters = NamedFilters(filters or {}, default_filter)
        self.filters = CompiledFilters(pool, self._named_filters)
        self.cache = cache
        self._pool = pool
        self._redis_classes = redis_classes
        self.releasing = Releasing()
        self._one_bulk = asyncio.Semaphore(1)  # the others wait, and leave the pool's threads to single questions
        self._one_description = asyncio.Semaphore(1)  # as do those of other snapshots, which take memory as well

    def check(self, table: Table) -> None:
        """Return if every named filter fits the items of a table. Raises InvalidFilter, naming the filter."""
        self._named_filters.check(table)

    def item(self, id_: int | str) -> AnswerJob:
        """The item. Raises UnknownItem."""
        table = self.opened()
        row = row_of(table, id_)

        async def compute(hidden: Hidden, _: Trace) -> FreshAnswer:
            payload = table.items.payload(row)
            body = {
                "snapshot": table.name,
                "id": table.items.id(row),
                "title": payload.get("title"),
                "payload": payload,
                "hidden": table.items.ids[row].as_py() in hidden,
            }
            return FreshAnswer(orjson.dumps(body), keep=True)

        return self._job(table, "", ("item", row), compute)

    def find(self, text: str, limit: int) -> AnswerJob:
        """Items by their titles."""
        table = self.opened()

        async def compute(hidden: Hidden, _: Trace) -> FreshAnswer:
            selection = await self.filters.selection(table, hidden, "")
            body = await self._in_pool(find_items, table, text, limit, selection)
            return FreshAnswer(body, keep=True)

        return self._job(table, "", ("find", text, limit), compute)

    def attributes(self, values: int) -> AnswerJob:
        """What values the attributes of all items have, hidden ones too: up to so many of each."""
        table = self.opened()

        def cut(whole: bytes) -> bytes:
            about = {"snapshot": table.name, "items": len(table.items), "image": table.image}
            return orjson.dumps({**about, "attributes": shorten(orjson.loads(whole), values)})

        async def compute(_: Hidden, __: Trace) -> FreshAnswer:
            return FreshAnswer(await self._in_pool(cut, await self._described(table)), keep=True)

        question = ("attributes", values, table.image)
        return self._job(table, "attributes", question, compute, _SLOW_TIMEOUT_MS, hidden_too=True)

    async def _described(self, table: Table) -> bytes:
        """What `describe_attributes` says of a table, as JSON: once for all who ask for any part of it."""

        def describe() -> bytes:
            return orjson.dumps(describe_attributes(table.items, MAX_VALUES))

        async def compute() -> FreshAnswer:
            try:
                async with self._one_description:
                    return FreshAnswer(await self._in_pool(describe), keep=True)
            finally:
                self.releasing.soon()

        key = self.key(table, self.hidden, "described", hidden_too=True)
        return (await self.cache.get(key, False, compute))[0]

    def score(self, a: int | str, b: int | str) -> AnswerJob:
        """The score of one pair: a's row, then b's where the data is undirected. Raises UnknownItem."""
        table = self.opened()
        row_a, row_b = row_of(table, a), row_of(table, b)

        async def stored(row: int, other: int) -> np.float32:
            rows, others = np.array([row], np.uint32), np.array([other], np.uint32)
            found = await pair_scores(table, rows, others, self._pool)
            if found.failed_shards:
                raise ShardUnavailable(f"shard {found.failed_shards[0]} did not answer")
            return np.float32(found.scores[0, 0])

        async def compute(_: Hidden, __: Trace) -> FreshAnswer:
            score = await stored(row_a, row_b)
            if math.isnan(score) and not table.snapshot.manifest.directed:
                score = await stored(row_b, row_a)
            items = table.items
            found = None if math.isnan(score) else score
            body = {"snapshot": table.name, "a": items.id(row_a), "b": items.id(row_b), "score": found}
            return FreshAnswer(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), keep=True)

        return self._job(table, "", ("score", row_a, row_b), compute, asks_shards=True)

    def similar(self, request: SimilarRequest) -> AnswerJob:
        """Hits for one item. Raises UnknownItem, InvalidQuery and SnapshotGone."""
        table = self.opened(request.snapshot)
        return self._hits(table, ask_similar(table, self._named_filters, request))

    def recommend(self, request: RecommendRequest, table: Table | None = None) -> AnswerJob:
        """Hits for many seeds; of this table, where the request names none. Raises UnknownItem, InvalidQuery,
        SnapshotGone.
        """
        if table is None or request.snapshot is not None:
            table = self.opened(request.snapshot)
        return self._hits(table, ask_recommend(table, self._named_filters, request))

    def rank(self, request: RankRequest) -> AnswerJob:
        """The candidates in order for the seeds. Raises UnknownItem, InvalidQuery and SnapshotGone."""
        table = self.opened(request.snapshot)
        return self._hits(table, ask_rank(table, self._named_filters, request))

    async def answer(self, job: AnswerJob) -> EncodedAnswer:
        """The answer, kept or computed. Raises InvalidQuery, DeadlineExceeded and ShardUnavailable."""
        started = time.perf_counter()
        trace = Trace()
        outcome: Outcome = "bypass"
        use_redis = self.uses_redis(job.kind) or (job.table.remote and job.asks_shards)
        body = self.cache.memory.get(job.key) if job.kind else None
        if body is not None:
            outcome = "memory"
        else:
            async with _deadline(job.timeout_ms):
                if job.kind:
                    compute = functools.partial(job.compute, job.hidden, trace)
                    body, outcome = await self.cache.get(job.key, use_redis, compute)
                else:
                    body = (await job.compute(job.hidden, trace)).body
        trace.stages["total"] = (time.perf_counter() - started) * 1e3
        whole = outcome != "bypass" or not job.kind
        return EncodedAnswer(body, job.table.name, job.etag if whole else None, outcome, trace.stages, trace.shards)

    def uses_redis(self, kind: str) -> bool:
        """Whether answers of a kind are looked for in Redis, wherever their shards are."""
        return kind in self._redis_classes and self.cache.redis is not None

    def key(self, table: Table, hidden: Hidden, question: object, hidden_too: bool = False) -> bytes:
        """The cache key of the answer to a question, told by its text; hidden_too: as for `_job`."""
        return answer_key(table.name, "" if hidden_too else self.filters.version(hidden), question)

    def explained(self, error: SimshardError) -> SimshardError:
        """The error; one in a filter, or what else names attributes, also tells those that there are."""
        if not isinstance(error, InvalidQuery) or isinstance(error, InvalidFilter) or self.table is None:
            return error
        if not _NAMES_ATTRIBUTES.match(error.field):
            return error
        return InvalidFilter(error.field, error.message, self.table.items.types)

    async def nearest(self, request: BulkOptions, ids: GivenIds = ()) -> tuple[str, pa.Table]:
        """The snapshot, and what `nearest_table` says of it; ids: those of the request, where it is a BulkRequest.

        Raises its errors, DeadlineExceeded and SnapshotGone.
        """
        table = self.opened(request.snapshot)
        given = request.ids if isinstance(request, BulkRequest) else ids
        async with _deadline(request.timeout_ms), self._one_bulk:
            text = self._named_filters.text(request.filter)
            selection = await self.filters.selection(table, self.hidden, text)
            return table.name, await nearest_table(table, selection, given, request, self._pool)

    def _job(
        self,
        table: Table,
        kind: str,
        question: Any,
        compute: Compute,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        asks_shards: bool = False,
        hidden_too: bool = False,
    ) -> AnswerJob:
        """What is to be answered; hidden_too: of all items, whatever is hidden or filtered out for everybody."""
        hidden = self.hidden
        key = self.key(table, hidden, question, hidden_too)
        return AnswerJob(table, hidden, kind, key, compute, asks_shards, timeout_ms)

    def _hits(self, table: Table, question: Question) -> AnswerJob:
        compute = hits_job(table, question, self.filters, self._pool)
        return self._job(table, question.kind, question_text(question), compute, question.timeout_ms, asks_shards=True)

    async def _in_pool(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, *arguments)


@asynccontextmanager
async def _deadline(milliseconds: int) -> AsyncIterator[None]:
    """Ends with DeadlineExceeded after so long."""
    try:
        async with asyncio.timeout(milliseconds / 1e3):
            yield
    except TimeoutError as error:
        raise DeadlineExceeded(f"no answer within {milliseconds} ms") from error
