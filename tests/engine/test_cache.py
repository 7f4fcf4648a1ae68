import asyncio
import socket
import tempfile
import time
from pathlib import Path

import pytest

from simshard.serve.engine.cache import Breaker, Cache, FreshAnswer, Lru, RedisCache, _name
from simshard.serve.launch.redis_server import RedisServer, find_server


@pytest.fixture
def redis_server():
    """A real server; the folder is short, because a unix socket's path is."""
    binary = find_server().binary
    assert binary is not None
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as folder:
        server = RedisServer(binary.path, Path(folder))
        yield server
        server.stop()


@pytest.fixture
async def redis(redis_server):
    cache = RedisCache(redis_server.url, ttl=60, timeout=0.5)
    yield cache
    await cache.close()


def test_memory_is_bounded_and_drops_the_least_recently_used():
    cache = Lru(10_000)
    for i in range(100):
        cache.put(b"%d" % i, b"x" * 800, 800)
        cache.get(b"0")
        assert cache.bytes <= 10_000
    assert cache.get(b"0") is not None
    assert cache.get(b"99") is not None
    assert cache.get(b"50") is None
    cache.put(b"large", b"x" * 9_000, 9_000)
    assert cache.get(b"large") is None


def computing(body, calls, delay=0.0, keep=True):
    async def compute():
        calls.append(body)
        await asyncio.sleep(delay)
        return FreshAnswer(body, keep)

    return compute


async def test_one_computation_for_many_callers():
    calls = []
    cache = Cache(Lru(1 << 20), None)
    answers = await asyncio.gather(*(cache.get(b"k", False, computing(b"body", calls, 0.05)) for _ in range(50)))
    assert {body for body, _ in answers} == {b"body"}
    assert calls == [b"body"]
    assert await cache.get(b"k", False, computing(b"other", calls)) == (b"body", "memory")


async def test_a_caller_that_gives_up_does_not_end_the_computation_of_the_others():
    calls = []
    cache = Cache(Lru(1 << 20), None)
    first = asyncio.create_task(cache.get(b"k", False, computing(b"body", calls, 0.1)))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(cache.get(b"k", False, computing(b"body", calls, 0.1)))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second)[0] == b"body"
    assert calls == [b"body"]


async def test_an_error_is_told_to_every_caller_and_not_kept():
    cache = Cache(Lru(1 << 20), None)

    async def broken():
        await asyncio.sleep(0.01)
        raise ZeroDivisionError

    answers = await asyncio.gather(*(cache.get(b"k", False, broken) for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ZeroDivisionError] * 3
    assert (await cache.get(b"k", False, computing(b"body", [])))[0] == b"body"


async def test_what_may_not_be_kept_is_computed_each_time():
    calls = []
    cache = Cache(Lru(1 << 20), None)
    for _ in range(2):
        assert await cache.get(b"k", False, computing(b"part", calls, keep=False)) == (b"part", "bypass")
    assert len(calls) == 2


async def test_redis_is_shared_between_processes_and_skipped_where_not_wanted(redis):
    calls = []
    first, second = Cache(Lru(1 << 20), redis), Cache(Lru(1 << 20), redis)
    assert await first.get(b"k", True, computing(b"body", calls)) == (b"body", "miss")
    await asyncio.gather(*redis._writes)
    assert await second.get(b"k", True, computing(b"body", calls)) == (b"body", "redis")
    third = Cache(Lru(1 << 20), redis)
    assert await third.get(b"k", False, computing(b"body", calls)) == (b"body", "miss")
    assert 0 < await redis._redis.ttl(_name(b"k")) <= 60


@pytest.mark.parametrize("wrong", [b"", b"short", b"x" * 500, b"\x80\x04]."])
async def test_a_wrong_value_counts_as_absent(redis, wrong):
    await redis._redis.set(_name(b"k"), wrong)
    assert await redis.get(b"k") is None
    await redis._redis.delete(_name(b"k"))
    await redis._redis.rpush(_name(b"k"), b"a list")
    assert await redis.get(b"k") is None


async def test_a_value_of_another_key_counts_as_absent(redis):
    await redis._put(b"one", b"body")
    await redis._redis.copy(_name(b"one"), _name(b"two"))
    assert await redis.get(b"one") == b"body"
    assert await redis.get(b"two") is None


async def test_a_dead_redis_fails_nothing_and_is_soon_left_alone(redis, redis_server):
    cache = Cache(Lru(0), redis)
    assert (await cache.get(b"0", True, computing(b"body", [])))[0] == b"body"
    redis_server.process.kill()
    redis_server.process.wait()
    for i in range(20):
        assert (await cache.get(b"%d" % i, True, computing(b"body", [])))[0] == b"body"
    assert redis.breaker.open
    started = time.monotonic()
    for i in range(100):
        await cache.get(b"%d" % i, True, computing(b"body", []))
    assert time.monotonic() - started < 0.9  # not one try: the pause is a second


async def test_a_hanging_redis_costs_its_timeout_a_few_times():
    with socket.create_server(("127.0.0.1", 0)) as silent:  # connections are made, and nobody answers
        redis = RedisCache(f"redis://127.0.0.1:{silent.getsockname()[1]}", ttl=60, timeout=0.02)
        cache = Cache(Lru(0), redis)
        for i in range(20):
            assert (await cache.get(b"%d" % i, True, computing(b"body", [])))[0] == b"body"
        assert redis.breaker.open
        await redis.close()


async def test_a_redis_that_is_full_stores_nothing_and_fails_nothing(redis):
    await redis._redis.config_set("maxmemory-policy", "noeviction")
    await redis._redis.config_set("maxmemory", "1")
    cache = Cache(Lru(0), redis)
    for i in range(5):
        assert (await cache.get(b"%d" % i, True, computing(b"body", [])))[0] == b"body"
        await asyncio.gather(*redis._writes)


def test_the_breaker_opens_tries_and_closes():
    now = 100.0
    breaker = Breaker(limit=2, clock=lambda: now)
    breaker.failure()
    assert breaker.allows()
    breaker.failure()
    assert not breaker.allows()
    now += 1.1
    assert breaker.allows()
    assert not breaker.allows()  # one trial only
    breaker.failure()
    now += 1.1
    assert not breaker.allows()  # the pause has doubled
    now += 1.0
    assert breaker.allows()
    breaker.success()
    assert breaker.allows()
    assert not breaker.open


def test_a_redis_server_that_cannot_listen_is_ended(tmp_path):
    folder = tmp_path / ("x" * 120)  # too long for the address of a unix socket
    folder.mkdir()
    with pytest.raises(OSError, match="too long"):
        RedisServer(find_server().binary.path, folder)
    with pytest.raises(OSError, match="did not start"):
        RedisServer("/bin/false", tmp_path)
