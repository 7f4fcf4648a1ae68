"""Questions -> cache -> router -> ids: every answer of the service as encoded bytes, without HTTP or Ray."""

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
from simshard.serve.engine.compiled_filters import CompiledFilters
from simshard.serve.engine.free_memory import Releasing
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
    NotReady,
    ShardUnavailable,
    SimshardError,
    SnapshotGone,
)
from simshard.shards.hidden import Hidden
from simshard.shards.manifest import NAME

Log = logging.getLogger("simshard.service")

ANSWER_FORMAT = 3  # part of every cache key: raise it when the bytes of an answer change
_SLOW_TIMEOUT_MS = 10_000  # where every item is looked at
_ADOPTION_TRIES = 24  # every 50 ms: within that time every replica follows a switch
_NAMES_ATTRIBUTES = re.compile(r"filter\b|boost\[\d+\]\.filter\b|group_by$|fallback\.order_by$")


class Service:
    """Answers from `table`, and from `older` ones, by name, that are still open.

    Each request keeps the table, and the list of hidden items, that it began with.
    """

    def __init__(
        self,
        cache: Cache,
        pool: Executor,
        redis_classes: frozenset[str] = frozenset(),
        filters: Mapping[str, Any] | None = None,
        default_filter: str | None = None,
    ) -> None:
        self.table: Table | None = None
        self.older: Mapping[str, Table] = {}
        self.cache = cache
        self.selections = CompiledFilters(pool, filters or {}, default_filter)
        self._pool = pool
        self._redis_classes = redis_classes
        self.releasing = Releasing()
        self._one_bulk = asyncio.Semaphore(1)  # the others wait, and leave the pool's threads to single questions
        self._one_description = asyncio.Semaphore(1)  # as do those of other snapshots, which take memory as well

    def serve(self, table: Table) -> Table | None:
        """Serve this table from now on; the one that it replaces, if any, which can still be asked until `close`."""
        replaced = self.table
        older = {name: each for name, each in self.older.items() if name != table.name}
        if replaced is not None and replaced.name != table.name:
            older[replaced.name] = replaced
        self.older = older
        self.table = table
        return replaced

    def close(self, table: Table) -> None:
        """Let go of a table that another replaced."""
        self.older = {name: each for name, each in self.older.items() if each is not table}

    def opened(self, name: str | None = None) -> Table:
        """The table for one request: the one served, or of the snapshot named. Raises NotReady and SnapshotGone."""
        table = self.table
        if table is None:
            raise NotReady("no snapshot is open yet; see /healthz")
        if name is None or name == table.name:
            return table
        if name not in self.older:
            raise SnapshotGone(f"snapshot {name} is not open here, or no longer; {table.name} is served now")
        return self.older[name]

    @property
    def names(self) -> list[str]:
        """The snapshots that can be asked, the one served first."""
        return [table.name for table in ([self.table] if self.table else []) + list(self.older.values())]

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

        return self._asked(table, "", ("item", row), compute)

    def find(self, text: str, limit: int) -> AnswerJob:
        """Items by their titles."""
        table = self.opened()

        async def compute(hidden: Hidden, _: Trace) -> FreshAnswer:
            selection = await self.selections.selection(table, hidden, "")
            body = await self._in_pool(find_items, table, text, limit, selection)
            return FreshAnswer(body, keep=True)

        return self._asked(table, "", ("find", text, limit), compute)

    def attributes(self, values: int) -> AnswerJob:
        """What values the attributes of all items have, hidden ones too: up to so many of each."""
        table = self.opened()

        def cut(whole: bytes) -> bytes:
            about = {"snapshot": table.name, "items": len(table.items), "image": table.image}
            return orjson.dumps({**about, "attributes": shorten(orjson.loads(whole), values)})

        async def compute(_: Hidden, __: Trace) -> FreshAnswer:
            return FreshAnswer(await self._in_pool(cut, await self._described(table)), keep=True)

        question = ("attributes", values, table.image)
        return self._asked(table, "attributes", question, compute, _SLOW_TIMEOUT_MS, hidden_too=True)

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

        key = self.key(table, self.selections.hidden, "described", hidden_too=True)
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

        return self._asked(table, "", ("score", row_a, row_b), compute, asks_shards=True)

    def similar(self, request: SimilarRequest) -> AnswerJob:
        """Hits for one item. Raises UnknownItem, InvalidQuery and SnapshotGone."""
        table = self.opened(request.snapshot)
        return self._hits(table, ask_similar(table, self.selections, request))

    def recommend(self, request: RecommendRequest, table: Table | None = None) -> AnswerJob:
        """Hits for many seeds; of this table, where the request names none. Raises UnknownItem, InvalidQuery,
        SnapshotGone.
        """
        if table is None or request.snapshot is not None:
            table = self.opened(request.snapshot)
        return self._hits(table, ask_recommend(table, self.selections, request))

    def rank(self, request: RankRequest) -> AnswerJob:
        """The candidates in order for the seeds. Raises UnknownItem, InvalidQuery and SnapshotGone."""
        table = self.opened(request.snapshot)
        return self._hits(table, ask_rank(table, self.selections, request))

    async def answer(self, asked: AnswerJob) -> EncodedAnswer:
        """The answer, kept or computed. Raises InvalidQuery, DeadlineExceeded and ShardUnavailable."""
        started = time.perf_counter()
        trace = Trace()
        outcome: Outcome = "bypass"
        use_redis = self.uses_redis(asked.kind) or (asked.table.remote and asked.asks_shards)
        body = self.cache.memory.get(asked.key) if asked.kind else None
        if body is not None:
            outcome = "memory"
        else:
            async with _deadline(asked.timeout_ms):
                if asked.kind:
                    compute = functools.partial(asked.compute, asked.hidden, trace)
                    body, outcome = await self.cache.get(asked.key, use_redis, compute)
                else:
                    body = (await asked.compute(asked.hidden, trace)).body
        trace.stages["total"] = (time.perf_counter() - started) * 1e3
        whole = outcome != "bypass" or not asked.kind
        return EncodedAnswer(body, asked.table.name, asked.etag if whole else None, outcome, trace.stages, trace.shards)

    def uses_redis(self, kind: str) -> bool:
        """Whether answers of a kind are looked for in Redis, wherever their shards are."""
        return kind in self._redis_classes and self.cache.redis is not None

    def key(self, table: Table, hidden: Hidden, question: object, hidden_too: bool = False) -> bytes:
        """The cache key of the answer to a question, told by its text; hidden_too: as for `_asked`."""
        version = "" if hidden_too else self.selections.version(hidden)
        return f"{ANSWER_FORMAT} {table.name} {version} {question}".encode()

    async def adopted(self, name: str | None) -> None:
        """Wait a moment for a snapshot that another replica may answer from already."""
        for _ in range(_ADOPTION_TRIES):
            if name is None or not NAME.fullmatch(name) or name in self.names:
                return
            await asyncio.sleep(0.05)

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
            return table.name, await nearest_table(table, self.selections, given, request, self._pool)

    def _asked(
        self,
        table: Table,
        kind: str,
        question: Any,
        compute: Compute,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
        asks_shards: bool = False,
        hidden_too: bool = False,
    ) -> AnswerJob:
        """The question; hidden_too: its answer is of all items, whatever is hidden or filtered out for everybody."""
        hidden = self.selections.hidden
        key = self.key(table, hidden, question, hidden_too)
        return AnswerJob(table, hidden, kind, key, compute, asks_shards, timeout_ms)

    def _hits(self, table: Table, question: Question) -> AnswerJob:
        compute = hits_job(table, question, self.selections, self._pool)
        return self._asked(table, question.kind, question.key, compute, question.timeout_ms, asks_shards=True)

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
