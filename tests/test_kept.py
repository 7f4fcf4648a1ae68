"""Answers kept by the target as it was sent: the same as others, and only while they are true."""

import gc
import weakref

import httpx
import pytest

from simshard.serve import api, computing
from simshard.serve.cache import Cache, Lru
from simshard.serve.router import local_table
from simshard.serve.service import Service
from simshard.shards.hidden import hide_item, read_hidden
from simshard.shards.store import Snapshot
from tests import oracle
from tests.builder import random_matrix, write_store
from tests.test_api import client_of
from tests.test_router import POOL

MATRICES = [random_matrix(seed, 30, density=0.8) for seed in range(2)]
TARGET = "/v1/items/3/similar?limit=5"


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", MATRICES[0])


@pytest.fixture
def service(store):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    return service


@pytest.fixture
def parsed(monkeypatch):
    """The queries that were parsed."""
    seen = []
    real = api.from_query
    monkeypatch.setattr(api, "from_query", lambda *a, **k: seen.append(a) or real(*a, **k))
    return seen


def hits(answer):
    assert answer.status_code == 200
    return [hit["id"] for hit in answer.json()["hits"]]


def expected(matrix, exclude=()):
    return [row for row, _ in oracle.hits(matrix, [oracle.Seed(3)], limit=5, exclude=exclude)]


async def test_the_third_answer_is_the_first_without_parsing(service, store, parsed):
    async with client_of(service, store) as client:
        answers = [await client.get(TARGET) for _ in range(4)]
        assert len(parsed) == 2
        assert [answer.headers["x-cache"] for answer in answers] == ["miss", "memory", "memory", "memory"]
        assert {answer.content for answer in answers} == {answers[0].content}
        ours = [dict(answer.headers) for answer in answers[1:]]
        for headers in ours:
            assert headers.pop("server-timing").startswith("total;dur=")
        assert ours[0] == ours[1] == ours[2]
        assert (await client.get("/v1/items/3/similar?limit=6")).headers["x-cache"] == "miss"
        same = await client.get(TARGET, headers={"if-none-match": answers[0].headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.post(TARGET)).status_code == 405


async def test_a_switch_and_a_hidden_item_are_seen_at_once(service, store):
    async with client_of(service, store) as client:
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[0])
        gone = expected(MATRICES[0])[0]
        hide_item(store, service.opened().items, gone, True)
        service.selections.hidden = read_hidden(store)
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[0], exclude={gone})
        hide_item(store, service.opened().items, gone, False)
        service.selections.hidden = read_hidden(store)
        write_store(store.root, MATRICES[1])
        service.serve(local_table(Snapshot(store), POOL))
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[1])


async def test_what_is_kept_holds_no_snapshot_open(service, store):
    async with client_of(service, store) as client:
        for _ in range(3):
            await client.get(TARGET)
        old = weakref.ref(service.table)
        write_store(store.root, MATRICES[1])
        replaced = service.serve(local_table(Snapshot(store), POOL))
        service.close(replaced)
        del replaced
        gc.collect()
        assert old() is None


async def test_following_the_list_of_hidden_items_changes_nothing_where_none_is(service, store, parsed):
    async with client_of(service, store) as client:
        for _ in range(5):
            service.selections.hidden = read_hidden(store, service.selections.hidden)
            await client.get(TARGET)
    assert len(parsed) == 2


async def test_a_plain_question_is_computed_at_once_and_others_are_not(service, store, monkeypatch):
    async def never(*_):
        raise AssertionError("waited")

    monkeypatch.setattr(computing, "rank_hits", never)
    async with client_of(service, store) as client:
        assert hits(await client.get(TARGET)) == expected(MATRICES[0])
        assert (await client.get("/v1/items/4/similar")).headers["x-shards"] == "0"
        for options in ("diversity=0.5", "explain=true", "limit=51", 'filter={"must":[]}', "group_by=x"):
            assert (await client.get(f"/v1/items/3/similar?{options}")).status_code == 500


async def test_a_key_is_asked_for_before_anything(service, store):
    async with client_of(service, store, api_key="k") as client:
        for _ in range(3):
            assert hits(await client.get(TARGET, headers={"authorization": "Bearer k"})) == expected(MATRICES[0])
        assert (await client.get(TARGET)).status_code == 401


async def test_the_most_recently_asked_fit_into_a_quarter(store):
    service = Service(Cache(Lru(40_000), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    app = client_of(service, store)._transport.app
    entries = app._kept.__self__._entries
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        for row in range(30):
            for _ in range(2):
                await client.get(f"/v1/items/{row}/similar")
        assert 0 < entries.bytes <= 10_000
        nothing = Service(Cache(Lru(0), None), POOL)
        nothing.serve(service.table)
        off = client_of(nothing, store)
        assert [(await off.get(TARGET)).headers["x-cache"] for _ in range(3)] == ["miss"] * 3
