"""X-Shards: the shards that were asked for an answer, against what the ways to them saw."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.shards.errors import ShardUnavailable
from simshard.shards.store import Snapshot
from tests.support.api_client import client_of
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL, actor_table

ITEMS = 40
SHARDS = 4
MATRIX = random_matrix(5, ITEMS, density=0.9)
MATRIX[0, 10:] = MATRIX[10:, 0] = np.nan  # item 0 has hits in its own shard alone


class Watched:
    """A way to a shard that notes when it is gone."""

    remote = True

    def __init__(self, inner, shard, seen, away=False):
        self.inner, self.shard, self.seen, self.away = inner, shard, seen, away

    def __getattr__(self, method):
        async def ask(*arguments):
            self.seen.add(self.shard)
            if self.away:
                raise ShardUnavailable("away")
            return await getattr(self.inner, method)(*arguments)

        return ask


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    years = pa.array([row % 7 for row in range(ITEMS)], pa.int64())
    return write_store(tmp_path_factory.mktemp("asked"), MATRIX, shards=SHARDS, attributes={"year": years})


def watched(table, seen, away=()):
    ways = [Watched(way, shard, seen, shard in away) for shard, way in enumerate(table.transports)]
    return replace(table, transports=tuple(ways))


def service_of(table):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(table)
    return service


def told(answer):
    assert answer.status_code == 200, answer.text
    shards = answer.headers.get("x-shards")
    return {int(shard) for shard in shards.split(",")} if shards else set()


BOOST = [{"filter": {"must": [{"key": "year", "range": {"gte": 3}}]}, "factor": 1.5}]
BODIES = [
    {"positive": [1]},
    {"positive": [1, 12]},
    {"positive": [1, 12, 39], "negative": [25]},
    {"positive": [1], "boost": BOOST},
    {"positive": [1], "explain": True},
    {"positive": [1, 39], "explain": True, "boost": BOOST},
    {"positive": [1], "diversity": 0.5, "limit": 8},
    {"positive": [0], "diversity": 0.5, "limit": 3},
    {"positive": [0], "diversity": 0.5, "limit": 3, "explain": True},
    {"positive": [39], "group_by": "year"},
    {"positive": [39], "group_by": "year", "explain": True},
    {"positive": [15], "fallback": {"order_by": "year"}, "limit": 50},
    {"positive": ["nobody"], "fallback": {"order_by": "year"}},
]


@pytest.mark.parametrize("body", BODIES, ids=json.dumps)
async def test_recommend_tells_what_was_asked(store, body):
    local = local_table(Snapshot(store), POOL)
    seen = set()
    async with client_of(service_of(watched(local, seen)), store) as client:
        answer = await client.post("/v1/recommend", json=body)
        assert told(answer) == seen
        assert bool(seen) == (body["positive"] != ["nobody"])
        kept = await client.post("/v1/recommend", json=body)
        assert (kept.headers["x-cache"], "x-shards" in kept.headers) == ("memory", False)
    for table in (local, actor_table(local)):  # the same without being watched, by either way
        async with client_of(service_of(table), store) as client:
            assert told(await client.post("/v1/recommend", json=body)) == seen


async def test_similar_and_rank_tell_what_was_asked(store):
    local = local_table(Snapshot(store), POOL)
    for ask, shards in [
        (("GET", "/v1/items/12/similar"), {1}),
        (("GET", "/v1/similar?id=39&limit=3"), {3}),
        (("GET", "/v1/similar?id=0&diversity=0.3&limit=3"), {0}),
        (("POST", "/v1/rank", {"positive": [1, 39], "candidates": [5, 15, 25]}), {0, 3}),
        (("POST", "/v1/rank", {"positive": [12], "candidates": [5, 15], "explain": True}), {1}),
    ]:
        method, url, body = (*ask, None)[:3]
        seen = set()
        async with client_of(service_of(watched(local, seen)), store) as client:
            answer = await client.request(method, url, json=body)
            assert told(answer) == seen == shards
            if method == "GET":
                tag = {"if-none-match": answer.headers["etag"]}
                assert "x-shards" not in (await client.get(url, headers=tag)).headers
    async with client_of(service_of(local), store) as client:
        for url in ("/v1/items/12", "/v1/items?q=1", "/v1/score?a=1&b=2", "/v1/attributes"):
            assert "x-shards" not in (await client.get(url)).headers


async def test_a_shard_that_did_not_answer_was_asked(store):
    seen = set()
    table = watched(local_table(Snapshot(store), POOL), seen, away={3})
    async with client_of(service_of(table), store) as client:
        for _ in range(2):  # never kept
            answer = await client.post("/v1/recommend", json={"positive": [1, 39]})
            assert (told(answer), answer.json()["failed_shards"]) == ({0, 3}, [3])
        assert "x-shards" not in (await client.get("/v1/similar?id=39")).headers  # a problem


class FakeRedis:
    """A shared cache that has nothing, and notes whether it was asked."""

    def __init__(self):
        self.gets = 0

    async def get(self, _):
        self.gets += 1

    def put(self, *_):
        pass


async def test_redis_is_asked_for_what_a_shard_elsewhere_would_be_asked(store):
    local = local_table(Snapshot(store), POOL)
    for table in (local, actor_table(local)):
        redis = FakeRedis()
        service = Service(Cache(Lru(1 << 20), redis), POOL)
        service.serve(table)
        async with client_of(service, store) as client:
            for url, asks in [("similar?id=1", True), ("attributes", False), ("score?a=1&b=2", False)]:
                redis.gets = 0
                assert (await client.get(f"/v1/{url}")).status_code == 200
                assert redis.gets == (asks and table.remote)


async def test_classes_are_told_by_what_a_question_costs(store):
    """What Redis is asked for by default where shards are here: all but what the best stored beside a row answer."""
    redis = FakeRedis()
    service = Service(Cache(Lru(0), redis), POOL, redis_classes=frozenset({"recommend"}))
    service.serve(local_table(Snapshot(store), POOL))
    half = {"filter": {"must": [{"key": "year", "range": {"gte": 3}}]}}
    async with client_of(service, store) as client:
        for body, asks in [
            ({"positive": [1]}, False),
            ({"positive": [{"id": 1, "weight": 2}], "offset": 2, "score_threshold": 0.1, **half}, False),
            ({"positive": [1], "diversity": 0.5}, True),
            ({"positive": [1], "boost": BOOST}, True),
            ({"positive": [1], "explain": True}, True),
            ({"positive": [1], "group_by": "year"}, True),
            ({"positive": [1, 2]}, True),
            ({"positive": [1], "negative": [2]}, True),
        ]:
            redis.gets = 0
            assert (await client.post("/v1/recommend", json=body)).status_code == 200
            assert redis.gets == asks, body
        redis.gets = 0
        await client.get("/v1/items/1/similar?diversity=0.5")
        assert redis.gets == 1
        await client.post("/v1/rank", json={"positive": [1], "candidates": [2, 3]})
        assert redis.gets == 2


async def test_one_seed_is_the_same_question_however_it_is_asked(store):
    service = service_of(local_table(Snapshot(store), POOL))
    async with client_of(service, store) as client:
        one = await client.post("/v1/recommend", json={"positive": [1], "limit": 60})
        other = await client.get("/v1/similar?id=1&limit=60")
        assert (other.content, other.headers["x-cache"]) == (one.content, "memory")


async def test_of_requests_that_share_a_computation_one_tells(store):
    seen = set()
    service = service_of(watched(local_table(Snapshot(store), POOL), seen))
    async with client_of(service, store) as client:
        body = {"positive": [1, 39]}
        answers = await asyncio.gather(*(client.post("/v1/recommend", json=body) for _ in range(5)))
        assert sorted(len(told(answer)) for answer in answers) == [0, 0, 0, 0, 2]
