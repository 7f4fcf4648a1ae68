"""A query to the shards that own its seeds: scatter, retry once, merge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from simshard.serve.engine.table import Table
from simshard.shards.errors import ShardUnavailable, SimshardError
from simshard.shards.format import MISSING, ShardReader
from simshard.shards.query import Hits, Partial, Query, Rows, Selection, merge, truncate
from simshard.shards.search import Nearest, search_whole
from simshard.shards.search import nearest as nearest_of
from simshard.shards.search import scores as scores_of
from simshard.shards.transport import LocalTransport

T = TypeVar("T")


class SearchResult(NamedTuple):
    """Hits, the shards that were asked, and those of them that did not answer."""

    hits: Hits
    shards: tuple[int, ...]
    failed_shards: tuple[int, ...]


def union(*shards: tuple[int, ...]) -> tuple[int, ...]:
    """The shards of all of these, ascending, each once."""
    return tuple(sorted(set().union(*shards)))


async def search(table: Table, query: Query, pool: Executor) -> SearchResult:
    """The hits of a query. Raises ShardUnavailable if no shard of its seeds answered."""
    owners = table.snapshot.manifest.shard_of(query.rows)
    shards = owners.tolist() if len(owners) == 1 else np.unique(owners).tolist()
    if len(shards) == 1 and query.factors is None:
        transport = table.transports[shards[0]]
        return SearchResult(await _twice(lambda: transport.search(query)), tuple(shards), ())
    parts = [query.of_seeds(owners == shard) for shard in shards]
    readers = _local_readers(table, shards)
    if readers is not None:
        each = list(zip(readers, parts, strict=True))
        hits = await asyncio.get_running_loop().run_in_executor(pool, search_whole, each, query)
        return SearchResult(hits, tuple(shards), ())

    async def partial(shard: int, part: Query) -> Partial | None:
        try:
            return await _twice(lambda: table.transports[shard].partial(part))
        except ShardUnavailable:
            return None

    answers = await asyncio.gather(*(partial(shard, part) for shard, part in zip(shards, parts, strict=True)))
    failed = tuple(shard for shard, answer in zip(shards, answers, strict=True) if answer is None)
    partials = [answer for answer in answers if answer is not None]
    if not partials:
        raise ShardUnavailable(f"none of the shards {', '.join(map(str, shards))} answered")
    finish = asyncio.get_running_loop().run_in_executor(pool, lambda: truncate(merge(partials), query))
    return SearchResult(await finish, tuple(shards), failed)


class PairScores(NamedTuple):
    """Scores float32 (R, C), NaN where there is no pair or its shard, one of those that were asked, did not answer."""

    scores: NDArray[np.float32]
    shards: tuple[int, ...]
    failed_shards: tuple[int, ...]


async def pair_scores(table: Table, rows: Rows, columns: Rows, pool: Executor) -> PairScores:
    """Scores of rows (R,) with other rows (C,), as they are stored in the shards of `rows`."""
    owners = table.snapshot.manifest.shard_of(rows)
    shards = np.unique(owners).tolist()
    found = np.full((len(rows), len(columns)), MISSING)
    failed = []
    readers = _local_readers(table, shards)
    if readers is not None:

        def whole() -> None:
            for shard, reader in zip(shards, readers, strict=True):
                found[owners == shard] = scores_of(reader, rows[owners == shard], columns)

        await asyncio.get_running_loop().run_in_executor(pool, whole)
        return PairScores(found, tuple(shards), ())

    async def fill(shard: int) -> None:
        mine = owners == shard
        try:
            found[mine] = await _twice(lambda: table.transports[shard].scores(rows[mine], columns))
        except ShardUnavailable:
            failed.append(shard)

    await asyncio.gather(*(fill(shard) for shard in shards))
    return PairScores(found, tuple(shards), tuple(sorted(failed)))


async def nearest(table: Table, rows: Rows, limit: int, selection: Selection | None, pool: Executor) -> Nearest:
    """The hits of many single seeds (R,), in their order. Raises ShardUnavailable if any of their shards is away."""
    owners = table.snapshot.manifest.shard_of(rows)
    shards = np.unique(owners).tolist()
    loop = asyncio.get_running_loop()

    async def ask(shard: int) -> Nearest:
        return await _twice(lambda: table.transports[shard].nearest(rows[owners == shard], limit, selection))

    readers = _local_readers(table, shards)
    if readers is not None:

        def whole() -> Nearest:
            each = zip(shards, readers, strict=True)
            answers = [nearest_of(reader, rows[owners == shard], limit, selection) for shard, reader in each]
            return _in_order(owners, shards, answers)

        return await loop.run_in_executor(pool, whole)
    answers = await asyncio.gather(*(ask(shard) for shard in shards))
    return await loop.run_in_executor(pool, _in_order, owners, shards, answers)


def _in_order(owners: NDArray[np.intp], shards: Sequence[int], answers: Sequence[Nearest]) -> Nearest:
    """The answers of shards as one, in the order of the seeds, of which `owners` (R,) names the shards."""
    if len(answers) == 1:
        return answers[0]
    counts = np.zeros(len(owners), dtype=np.intp)
    for shard, answer in zip(shards, answers, strict=True):
        counts[owners == shard] = answer.counts
    width = int(counts.max(initial=0))
    if width and (counts == width).all():  # each is a matrix, whose rows are put where they belong
        rows, values = np.empty((len(owners), width), np.uint32), np.empty((len(owners), width), np.float32)
        for shard, answer in zip(shards, answers, strict=True):
            mine = np.flatnonzero(owners == shard)
            rows[mine], values[mine] = answer.neighbors.reshape(-1, width), answer.scores.reshape(-1, width)
        return Nearest(counts, rows.reshape(-1), values.reshape(-1))
    owner_of_each = np.repeat(owners, counts)
    neighbors = np.empty(len(owner_of_each), dtype=np.uint32)
    scores = np.empty(len(owner_of_each), dtype=np.float32)
    for shard, answer in zip(shards, answers, strict=True):
        mine = owner_of_each == shard
        neighbors[mine], scores[mine] = answer.neighbors, answer.scores
    return Nearest(counts, neighbors, scores)


def _local_readers(table: Table, shards: Sequence[int]) -> list[ShardReader] | None:
    """The readers of these shards if all are local: then one job of the pool is faster than one for each."""
    ways = [table.transports[shard] for shard in shards]
    readers = [way.reader for way in ways if isinstance(way, LocalTransport)]
    return readers if len(readers) == len(ways) else None


async def _twice(ask: Callable[[], Awaitable[T]]) -> T:
    try:
        return await ask()
    except SimshardError as error:
        if not error.retryable:
            raise
        return await ask()
