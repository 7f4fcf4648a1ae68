"""The routing table of one snapshot, and the ways through it: scatter, retry once, merge."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from simshard.shards.attributes import image_column, origins_of
from simshard.shards.errors import ShardUnavailable, SimshardError
from simshard.shards.format import MISSING, ShardReader
from simshard.shards.items import Items
from simshard.shards.manifest import verify_file
from simshard.shards.payloads import Payloads
from simshard.shards.query import Hits, Partial, Query, Rows, Selection, merge, truncate
from simshard.shards.search import Nearest, search_whole
from simshard.shards.search import nearest as nearest_of
from simshard.shards.search import scores as scores_of
from simshard.shards.store import Snapshot
from simshard.shards.titles import Titles
from simshard.shards.transport import LocalTransport, Transport

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """One open snapshot: its items and, for each shard, the way to it. A request keeps the table it began with.

    titles: the index for title search; None where no item has a title. image: the attribute that holds the address of
    each item's picture, where there is one; image_origins: where the pictures are, as `origins_of` tells.
    """

    snapshot: Snapshot
    items: Items
    titles: Titles | None
    transports: tuple[Transport, ...]
    image: str | None = None
    image_origins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The snapshot's name."""
        return self.snapshot.name

    @property
    def remote(self) -> bool:
        """Whether any shard is reached by a call."""
        return any(transport.remote for transport in self.transports)


def open_table(snapshot: Snapshot, transports: Sequence[Transport]) -> Table:
    """A table over these ways to the snapshot's shards, without pictures."""
    titles = Titles(snapshot.folder) if snapshot.manifest.titles_file else None
    payloads = Payloads(snapshot.folder) if snapshot.manifest.payloads_file else None
    return Table(snapshot, Items(snapshot.folder, payloads), titles, tuple(transports))


def with_image(table: Table, name: str | None) -> Table:
    """The table with its text attribute of that name as pictures; as it is where it has none. Reads every address."""
    pictures = image_column(table.items, name)
    return table if pictures is None else replace(table, image=name, image_origins=origins_of(pictures))


def local_table(snapshot: Snapshot, pool: Executor, image: str | None = None) -> Table:
    """A table that reads every shard in this process, all files verified. Raises CorruptFile."""
    for info in snapshot.manifest.files:
        verify_file(snapshot.folder, info)
    shards = range(len(snapshot.manifest.shards))
    readers = [ShardReader(snapshot.folder, snapshot.manifest, shard) for shard in shards]
    return with_image(open_table(snapshot, [LocalTransport(reader, pool) for reader in readers]), image)


class Found(NamedTuple):
    """Hits, the shards that were asked, and those of them that did not answer."""

    hits: Hits
    shards: tuple[int, ...]
    failed_shards: tuple[int, ...]


def union(*shards: tuple[int, ...]) -> tuple[int, ...]:
    """The shards of all of these, ascending, each once."""
    return tuple(sorted(set().union(*shards)))


async def search(table: Table, query: Query, pool: Executor) -> Found:
    """The hits of a query. Raises ShardUnavailable if no shard of its seeds answered."""
    owners = table.snapshot.manifest.shard_of(query.rows)
    shards = owners.tolist() if len(owners) == 1 else np.unique(owners).tolist()
    if len(shards) == 1 and query.factors is None:
        transport = table.transports[shards[0]]
        return Found(await _twice(lambda: transport.search(query)), tuple(shards), ())
    parts = [query.of_seeds(owners == shard) for shard in shards]
    readers = _local_readers(table, shards)
    if readers is not None:
        each = list(zip(readers, parts, strict=True))
        hits = await asyncio.get_running_loop().run_in_executor(pool, search_whole, each, query)
        return Found(hits, tuple(shards), ())

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
    return Found(await finish, tuple(shards), failed)


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
