"""Answers kept: in this process (LRU, bounded in bytes), then in Redis, then computed, once at a time for each key.

Redis can only help: its calls are short, a breaker skips it while it fails, and a value that is not exactly what was
stored under the key counts as absent. Values are response bytes behind a checksum, never pickles.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import xxhash

from simshard.serve.engine.single_flight import SingleFlight

V = TypeVar("V")
Outcome = Literal["memory", "redis", "miss", "bypass"]
Log = logging.getLogger("simshard.cache")

_ENTRY_OVERHEAD = 200  # bytes that Python keeps beside key and value
_LARGEST_VALUE = 1 << 20
_CHECKSUM = 8


class FreshAnswer(NamedTuple):
    """The bytes of an answer just computed, and whether they may be kept (a partial answer may not)."""

    body: bytes
    keep: bool


class Lru(Generic[V]):
    """The most recently used values, within `capacity` bytes."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._entries: OrderedDict[Hashable, tuple[V, int]] = OrderedDict()
        self.bytes = 0

    def get(self, key: Hashable) -> V | None:
        """The value, now the most recently used; None if absent."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        self._entries.move_to_end(key)
        return entry[0]

    def drop(self, key: Hashable) -> None:
        """Let go of a value, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.bytes -= entry[1]

    def put(self, key: Hashable, value: V, size: int) -> None:
        """Keep a value of `size` bytes, dropping the least recently used ones that no longer fit."""
        size += _ENTRY_OVERHEAD
        if size > self.capacity // 4 or key in self._entries:
            return
        self._entries[key] = value, size
        self.bytes += size
        while self.bytes > self.capacity:
            _, (_, dropped) = self._entries.popitem(last=False)
            self.bytes -= dropped


class Breaker:
    """Open after `limit` failures in a row: nothing passes for a while, then one trial; the while doubles to 30 s."""

    def __init__(self, limit: int = 3, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._failures = 0
        self._pause = 1.0
        self._closed_until_trial = 0.0

    def allows(self) -> bool:
        """Whether to try now."""
        if self._failures < self._limit:
            return True
        if self._clock() < self._closed_until_trial:
            return False
        self._closed_until_trial = self._clock() + self._pause
        return True

    def success(self) -> None:
        """The last try worked."""
        self._failures, self._pause = 0, 1.0

    def failure(self) -> None:
        """The last try failed."""
        self._failures += 1
        if self._failures >= self._limit:
            self._closed_until_trial = self._clock() + self._pause
            self._pause = min(2 * self._pause, 30.0)

    @property
    def open(self) -> bool:
        """Whether failures have stopped the tries."""
        return self._failures >= self._limit


class RedisCache:
    """Redis as a shared second cache; `timeout` in seconds bounds what a lookup can cost."""

    def __init__(self, url: str, ttl: int, timeout: float = 0.01) -> None:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self._pool = BlockingConnectionPool.from_url(
            url,
            max_connections=16,
            timeout=timeout,
            socket_timeout=1.0,
            socket_connect_timeout=0.5,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Any = Redis(connection_pool=self._pool)
        self._ttl = ttl
        self._timeout = timeout
        self._writes: set[asyncio.Task[None]] = set()
        self.breaker = Breaker()

    async def get(self, key: bytes) -> bytes | None:
        """The value stored under the key; None if absent, damaged, late, or Redis is in trouble."""
        if not self.breaker.allows():
            return None
        name = _name(key)
        try:
            stored = await asyncio.wait_for(self._redis.get(name), self._timeout)
        except Exception as error:  # whatever goes wrong here must not fail a request
            self._failed(error)
            return None
        self.breaker.success()
        if not isinstance(stored, bytes) or stored[:_CHECKSUM] != _checksum(name, stored[_CHECKSUM:]):
            return None
        return stored[_CHECKSUM:]

    def put(self, key: bytes, value: bytes) -> None:
        """Store a value in the background, unless too many writes are waiting already."""
        if len(value) > _LARGEST_VALUE or len(self._writes) >= 64 or not self.breaker.allows():
            return
        task = asyncio.get_running_loop().create_task(self._put(key, value))
        self._writes.add(task)
        task.add_done_callback(self._writes.discard)

    async def _put(self, key: bytes, value: bytes) -> None:
        name = _name(key)
        try:
            await asyncio.wait_for(self._redis.set(name, _checksum(name, value) + value, ex=self._ttl), 0.5)
        except Exception as error:  # see get
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        was_open = self.breaker.open
        self.breaker.failure()
        if self.breaker.open and not was_open:
            Log.warning("Redis is skipped for now: %s", type(error).__name__)

    async def close(self) -> None:
        """End the writes under way and the connections."""
        for task in self._writes:
            task.cancel()
        await asyncio.gather(*self._writes, return_exceptions=True)
        await self._redis.aclose()
        await self._pool.disconnect()


def _name(key: bytes) -> str:
    return f"simshard:{hashlib.blake2b(key, digest_size=16).hexdigest()}"


def _checksum(name: str, value: bytes) -> bytes:
    return xxhash.xxh3_64_digest(name.encode() + value)


class Cache:
    """Memory, then Redis where there is one and the caller wants it, then `compute`."""

    def __init__(self, memory: Lru[Any], redis: RedisCache | None) -> None:
        self.memory = memory
        self.redis = redis
        self._flights: SingleFlight[tuple[bytes, Outcome]] = SingleFlight()

    async def get(
        self, key: bytes, use_redis: bool, compute: Callable[[], Awaitable[FreshAnswer]]
    ) -> tuple[bytes, Outcome]:
        """The answer's bytes and where they came from. Callers of one key at one time share one computation."""
        body = self.memory.get(key)
        if body is not None:
            return body, "memory"
        return await self._flights.run(key, functools.partial(self._fetch, key, use_redis, compute))

    async def _fetch(
        self, key: bytes, use_redis: bool, compute: Callable[[], Awaitable[FreshAnswer]]
    ) -> tuple[bytes, Outcome]:
        redis = self.redis if use_redis else None
        if redis is not None:
            body = await redis.get(key)
            if body is not None:
                self.memory.put(key, body, len(key) + len(body))
                return body, "redis"
        computed = await compute()
        if not computed.keep:
            return computed.body, "bypass"
        self.memory.put(key, computed.body, len(key) + len(computed.body))
        if redis is not None:
            redis.put(key, computed.body)
        return computed.body, "miss"
