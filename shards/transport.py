"""How a router reaches a shard: one protocol, two ways with bit-identical answers.

LocalTransport reads the shard's map in this process; ActorTransport calls the actor that holds the shard, once for all
that is asked of it at the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from simshard.shards import search
from simshard.shards.errors import ShardUnavailable, SimshardError
from simshard.shards.format import ShardReader
from simshard.shards.query import Hits, Partial, Query, Rows, Selection
from simshard.shards.search import Nearest

T = TypeVar("T")


class Transport(Protocol):
    """One shard, asked. Every method raises ShardUnavailable when it cannot be reached."""

    remote: bool

    async def search(self, query: Query) -> Hits:
        """Hits of a query whose every seed is in the shard."""

    async def partial(self, query: Query) -> Partial:
        """What the query's seeds, all in the shard, contribute."""

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        """Scores of rows of the shard with any rows, NaN where there is no pair."""

    async def nearest(self, rows: Rows, limit: int, selection: Selection | None) -> Nearest:
        """Hits of many single seeds of the shard."""


class LocalTransport:
    """The shard's pages in this process. Whatever can touch a cold page of the matrix runs in the pool."""

    remote = False

    def __init__(self, reader: ShardReader, pool: Executor) -> None:
        self.reader = reader
        self._pool = pool

    async def search(self, query: Query) -> Hits:
        hits = search.search_top(self.reader, query)
        if hits is not None:
            return hits
        return await self._in_pool(search.search, query)

    async def partial(self, query: Query) -> Partial:
        return await self._in_pool(search.partial, query)

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        return await self._in_pool(search.scores, rows, columns)

    async def nearest(self, rows: Rows, limit: int, selection: Selection | None) -> Nearest:
        return await self._in_pool(search.nearest, rows, limit, selection)

    async def _in_pool(self, function: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._pool, function, self.reader, *arguments)


class _Call(NamedTuple):
    method: str
    arguments: tuple[Any, ...]
    answer: asyncio.Future[Any]


class ActorTransport:
    """Calls to the actor of the shard, with a timeout in seconds; Ray's errors become ShardUnavailable.

    What is asked in one turn of the event loop goes in one call, so a batch of requests is one message to each shard.
    """

    remote = True

    def __init__(self, actor: Any, snapshot: str, shard: int, timeout: float) -> None:
        self._actor, self._snapshot, self._shard, self._timeout = actor, snapshot, shard, timeout
        self._waiting: list[_Call] = []
        self._exchanges: set[asyncio.Task[None]] = set()

    async def search(self, query: Query) -> Hits:
        hits: Hits = await self._ask("search", query)
        return hits

    async def partial(self, query: Query) -> Partial:
        partial: Partial = await self._ask("partial", query)
        return partial

    async def scores(self, rows: Rows, columns: Rows) -> NDArray[np.float32]:
        found: NDArray[np.float32] = await self._ask("scores", rows, columns)
        return found

    async def nearest(self, rows: Rows, limit: int, selection: Selection | None) -> Nearest:
        found: Nearest = await self._ask("nearest", rows, limit, selection)
        return found

    async def _ask(self, method: str, *arguments: Any) -> Any:
        loop = asyncio.get_running_loop()
        if not self._waiting:
            loop.call_soon(self._send)
        self._waiting.append(_Call(method, arguments, loop.create_future()))
        return await self._waiting[-1].answer

    def _send(self) -> None:
        calls, self._waiting = self._waiting, []
        exchange = asyncio.get_running_loop().create_task(self._exchange(calls))
        self._exchanges.add(exchange)
        exchange.add_done_callback(self._exchanges.discard)
        for call in calls:  # where everybody who asked has gone, nobody waits for the actor
            call.answer.add_done_callback(lambda _: all(c.answer.done() for c in calls) and exchange.cancel())

    async def _exchange(self, calls: list[_Call]) -> None:
        """Ask the actor all of these and hand each caller its answer, or the error."""
        try:
            answers = await self._answers([(call.method, call.arguments) for call in calls])
        except Exception as error:
            for call in calls:
                if not call.answer.done():
                    call.answer.set_exception(error)
            return
        for call, answer in zip(calls, answers, strict=True):
            if not call.answer.done():
                call.answer.set_result(answer)

    async def _answers(self, calls: list[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        import ray
        from ray.exceptions import RayError, RayTaskError

        ref = self._actor.ask.remote(self._snapshot, calls)
        try:
            answers: list[Any] = await asyncio.wait_for(ref, self._timeout)
            return answers
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
