"""Ids -> rows -> cache -> router -> ids: every answer of the service as encoded bytes, without HTTP or Ray."""

from __future__ import annotations

import asyncio
import math
import time
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import orjson

from simshard.serve.cache import Cache, Computed, Outcome
from simshard.serve.router import Found, Table, pair_scores, search
from simshard.serve.schemas import MAX_DEPTH, RecommendRequest, Seed
from simshard.serve.search import find_items
from simshard.shards.errors import DeadlineExceeded, InvalidQuery, NotReady, SimshardError, UnknownItem
from simshard.shards.items import plain_id
from simshard.shards.query import MAX_SEEDS, Query, Strategy, rounding_for
from simshard.shards.store import Store

ANSWER_FORMAT = 1  # part of every cache key: raise it when the bytes of an answer change
DEFAULT_TIMEOUT_MS = 1000


@dataclass
class Reply:
    """An answer's JSON bytes, the snapshot that it is of, where it came from, and milliseconds by stage."""

    body: bytes
    snapshot: str
    outcome: Outcome = "bypass"
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Options:
    """What shapes an answer beside its seeds."""

    limit: int
    offset: int = 0
    score_threshold: float | None = None
    strategy: Strategy = "sum_scores"
    explain: bool = False
    with_payload: bool = True


@dataclass(frozen=True)
class Seeds:
    """Known seeds in the order of the request, and the ids of the unknown ones."""

    rows: tuple[int, ...]
    weights: tuple[float, ...]
    negative: tuple[bool, ...]
    missing: tuple[int | str, ...] = ()

    def in_row_order(self) -> Seeds:
        """The same seeds by ascending row."""
        rows, weights, negative = zip(*sorted(zip(self.rows, self.weights, self.negative, strict=True)), strict=True)
        return Seeds(rows, weights, negative, self.missing)


class Service:
    """Answers from `table`, which its owner replaces in one assignment when another snapshot is ready."""

    def __init__(self, cache: Cache, pool: Executor, redis_classes: frozenset[str] = frozenset()) -> None:
        self.table: Table | None = None
        self.cache = cache
        self._pool = pool
        self._redis_classes = redis_classes

    def opened(self) -> Table:
        """The table for one request. Raises NotReady."""
        if self.table is None:
            raise NotReady("no snapshot is open yet; see /healthz")
        return self.table

    def item(self, id_: int | str) -> Reply:
        """The item. Raises UnknownItem."""
        table = self.opened()
        row = _row(table, id_)
        payload = table.items.payload(row)
        body = {
            "snapshot": table.name,
            "id": table.items.id(row),
            "title": payload.get("title"),
            "payload": payload,
        }
        return Reply(orjson.dumps(body), table.name)

    async def find(self, text: str, limit: int) -> Reply:
        """Items by their titles."""
        table = self.opened()
        body = await asyncio.get_running_loop().run_in_executor(self._pool, find_items, table, text, limit)
        return Reply(body, table.name)

    async def score(self, a: int | str, b: int | str) -> Reply:
        """The score of one pair: a's row, then b's where the data is undirected. Raises UnknownItem."""
        table = self.opened()
        row_a, row_b = _row(table, a), _row(table, b)
        async with _deadline(DEFAULT_TIMEOUT_MS):
            found = await pair_scores(table, np.array([row_a], np.uint32), np.array([row_b], np.uint32))
            if math.isnan(found[0, 0]) and not table.snapshot.manifest.directed:
                found = await pair_scores(table, np.array([row_b], np.uint32), np.array([row_a], np.uint32))
        body = {
            "snapshot": table.name,
            "a": table.items.id(row_a),
            "b": table.items.id(row_b),
            "score": None if math.isnan(found[0, 0]) else found[0, 0],
        }
        return Reply(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), table.name)

    async def similar(self, id_: int | str, options: Options, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> Reply:
        """Hits for one item. Raises UnknownItem, InvalidQuery, DeadlineExceeded, ShardUnavailable."""
        table = self.opened()
        seeds = Seeds((_row(table, id_),), (1.0,), (False,))
        return await self._hits(table, "similar", seeds, (), options, timeout_ms)

    async def recommend(self, request: RecommendRequest) -> Reply:
        """Hits for many seeds. Raises InvalidQuery, UnknownItem, DeadlineExceeded, ShardUnavailable."""
        table = self.opened()
        seeds = _seeds(table, request)
        rows = (table.items.row(id_) for id_ in request.exclude_ids)
        exclude = tuple(sorted({row for row in rows if row is not None}))
        options = Options(
            request.limit,
            request.offset,
            request.score_threshold,
            request.strategy,
            request.explain,
            request.with_payload,
        )
        if not options.explain:
            seeds = seeds.in_row_order()  # one cache entry for all orders; an explanation keeps the request's
        return await self._hits(table, "recommend", seeds, exclude, options, request.timeout_ms)

    async def _hits(
        self, table: Table, kind: str, seeds: Seeds, exclude: tuple[int, ...], options: Options, timeout_ms: int
    ) -> Reply:
        if options.offset + options.limit > MAX_DEPTH:
            raise InvalidQuery("offset", f"offset + limit is {options.offset + options.limit}, at most {MAX_DEPTH}")
        started = time.perf_counter()
        stages: dict[str, float] = {}

        async def compute() -> Computed:
            query = _query(table, seeds, exclude, options)
            begun = time.perf_counter()
            found = await search(table, query, self._pool)
            explained = await self._explain(table, query, found) if options.explain else None
            searched = time.perf_counter()
            body = _encode(table, seeds, found, explained, options)
            stages["search"] = (searched - begun) * 1e3
            stages["encode"] = (time.perf_counter() - searched) * 1e3
            return Computed(body, keep=not found.failed_shards)

        key = repr((ANSWER_FORMAT, table.name, kind, seeds, exclude, options)).encode()
        use_redis = kind in self._redis_classes or table.remote
        async with _deadline(timeout_ms):
            body, outcome = await self.cache.get(key, use_redis, compute)
        stages["total"] = (time.perf_counter() - started) * 1e3
        return Reply(body, table.name, outcome, stages)

    async def _explain(self, table: Table, query: Query, found: Found) -> list[list[tuple[int, np.float32]]]:
        """For each hit, each contributing seed's place in the query with its contribution to the score."""
        scores = await pair_scores(table, query.rows, found.hits.rows)
        lines: list[list[tuple[int, np.float32]]] = [[] for _ in found.hits.rows]
        for seed in range(len(query.rows)):
            values = query.contribution(seed, np.nan_to_num(scores[seed]))
            if query.negative[seed] and query.strategy == "best_score":
                values = -values
            for hit in np.flatnonzero(~np.isnan(scores[seed])).tolist():
                lines[hit].append((seed, np.float32(values[hit])))
        return lines


def snapshots(store: Store, serving: str | None) -> dict[str, Any]:
    """The body of GET /v1/snapshots."""
    pointer = store.pointer()
    rows = []
    for name in store.names():
        try:
            manifest = store.manifest(name)
        except SimshardError:
            continue  # damaged or just pruned: `simshard snapshots verify` says more
        rows.append(
            {
                "name": name,
                "created": manifest.created,
                "encoding": manifest.encoding,
                "items": manifest.items,
                "pairs": manifest.pairs,
                "directed": manifest.directed,
                "shards": len(manifest.shards),
                "bytes": manifest.total_bytes,
                "active": name == pointer.active,
            }
        )
    return {"active": pointer.active, "serving": serving, "previous": list(pointer.previous), "snapshots": rows}


class _deadline:  # noqa: N801 - reads as a function
    """An async context that ends with DeadlineExceeded after some milliseconds."""

    def __init__(self, milliseconds: int) -> None:
        self._milliseconds = milliseconds
        self._timeout = asyncio.timeout(milliseconds / 1e3)

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *exception: Any) -> None:
        try:
            await self._timeout.__aexit__(*exception)
        except TimeoutError as error:
            raise DeadlineExceeded(f"no answer within {self._milliseconds} ms") from error


def _row(table: Table, id_: int | str) -> int:
    row = table.items.row(id_)
    if row is None:
        raise UnknownItem(f"item {id_!r} is not in snapshot {table.name}")
    return row


def _seeds(table: Table, request: RecommendRequest) -> Seeds:
    if len(request.positive) + len(request.negative) > MAX_SEEDS:
        raise InvalidQuery("negative", f"more than {MAX_SEEDS} seeds in all")
    rows: list[int] = []
    weights: list[float] = []
    negative: list[bool] = []
    missing: list[int | str] = []
    seen: set[int | str] = set()
    for name, given in (("positive", request.positive), ("negative", request.negative)):
        for i, seed in enumerate(given):
            id_, weight = (seed.id, seed.weight) if isinstance(seed, Seed) else (seed, 1.0)
            row = table.items.row(id_)
            if str(id_) in seen or row in rows:
                raise InvalidQuery(f"{name}[{i}]", f"id {id_!r} is given twice")
            seen.add(str(id_))
            if row is None:
                missing.append(plain_id(id_))
                continue
            rows.append(row)
            weights.append(weight)
            negative.append(name == "negative")
        if name == "positive" and not rows:
            raise UnknownItem(f"none of the positive ids is in snapshot {table.name}")
    return Seeds(tuple(rows), tuple(weights), tuple(negative), tuple(missing))


def _query(table: Table, seeds: Seeds, exclude: tuple[int, ...], options: Options) -> Query:
    weights = np.array(seeds.weights)
    return Query(
        rows=np.array(seeds.rows, dtype=np.uint32),
        weights=weights,
        negative=np.array(seeds.negative, dtype=np.bool_),
        exclude=np.array(sorted({*seeds.rows, *exclude}), dtype=np.uint32),
        limit=options.limit,
        offset=options.offset,
        strategy=options.strategy,
        score_threshold=options.score_threshold,
        rounding=rounding_for(weights, table.snapshot.manifest.score_abs_max),
    )


def _encode(
    table: Table,
    seeds: Seeds,
    found: Found,
    explained: list[list[tuple[int, np.float32]]] | None,
    options: Options,
) -> bytes:
    items = table.items
    ids = [items.id(row) for row in seeds.rows] if explained is not None else []
    scores = found.hits.scores.astype(np.float32)
    hits = []
    for i, row in enumerate(found.hits.rows.tolist()):
        hit: dict[str, Any] = {"id": items.id(row), "score": scores[i]}
        if options.with_payload:
            hit["payload"] = items.payload(row)
        if explained is not None:
            hit["explain"] = [{"id": ids[seed], "contribution": value} for seed, value in explained[i]]
        hits.append(hit)
    body = {
        "snapshot": table.name,
        "hits": hits,
        "missing_ids": list(seeds.missing),
        "partial": bool(found.failed_shards),
        "failed_shards": list(found.failed_shards),
    }
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
