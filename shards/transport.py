"""How a router reaches a shard: one protocol, two ways with bit-identical answers.

LocalTransport reads the shard's map in this process; ActorTransport makes one call to the actor that holds the shard.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from simshard.shards.errors import ShardUnavailable, SimshardError
from simshard.shards.format import ShardReader
from simshard.shards.query import Hits, Partial, Query, Rows


class Transport(Protocol):
    """One shard, asked. Every method raises ShardUnavailable when it cannot be reached."""

    remote: bool

    async def search(self, query: Query) -> Hits:
        """Hits of a query whose every seed is in the shard."""

    async def partial(self, query: Query) -> Partial:
        """What the query's seeds, all in the shard, contribute."""

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        """Scores of rows of the shard with any rows, NaN where there is no pair."""


class LocalTransport:
    """The shard's pages in this process. Whatever can touch a cold page of the matrix runs in the pool."""

    remote = False

    def __init__(self, reader: ShardReader, pool: Executor) -> None:
        self._reader = reader
        self._pool = pool

    async def search(self, query: Query) -> Hits:
        if self._reader.quick(query):
            return self._reader.search(query)
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._reader.search, query)

    async def partial(self, query: Query) -> Partial:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._reader.partial, query)

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._reader.scores, rows, columns)


class ActorTransport:
    """A call to the actor of the shard, with a timeout in seconds; Ray's errors become ShardUnavailable."""

    remote = True

    def __init__(self, actor: Any, snapshot: str, shard: int, timeout: float) -> None:
        self._actor, self._snapshot, self._shard, self._timeout = actor, snapshot, shard, timeout

    async def search(self, query: Query) -> Hits:
        hits: Hits = await self._ask("search", query)
        return hits

    async def partial(self, query: Query) -> Partial:
        partial: Partial = await self._ask("partial", query)
        return partial

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        found: NDArray[np.float32] = await self._ask("scores", rows, columns)
        return found

    async def _ask(self, method: str, *arguments: Any) -> Any:
        import ray
        from ray.exceptions import RayError, RayTaskError

        ref = self._actor.ask.remote(self._snapshot, method, *arguments)
        try:
            return await asyncio.wait_for(ref, self._timeout)
        except TimeoutError:
            ray.cancel(ref)
            raise ShardUnavailable(f"shard {self._shard}: no answer within {self._timeout} s") from None
        except asyncio.CancelledError:
            ray.cancel(ref)
            raise
        except RayTaskError as error:
            if isinstance(error.cause, SimshardError):
                raise error.cause from error
            raise
        except RayError as error:
            raise ShardUnavailable(f"shard {self._shard}: {type(error).__name__}") from error
