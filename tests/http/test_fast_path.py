"""The best of one item straight to the bytes: what the application behind would answer, and only while it is true."""

import asyncio
import gc
import weakref
from urllib.parse import quote

import httpx
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http import api
from simshard.shards.hidden import hide_item, read_hidden
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.api_client import client_of
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL, actor_table

ITEMS = 60
MATRICES = [random_matrix(seed, ITEMS, density=0.8) for seed in range(2)]
TARGET = "/v1/items/3/similar?limit=5"


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", MATRICES[0])


@pytest.fixture
def service(store):
    return service_of(store)


def service_of(store, cache=1 << 20, **options):
    service = Service(Cache(Lru(cache), None), POOL, **options)
    service.serve(local_table(Snapshot(store), POOL))
    return service


@pytest.fixture
def parsed(monkeypatch):
    """The queries that went past `FastPath`."""
    seen = []
    real = api.from_query
    monkeypatch.setattr(api, "from_query", lambda *a, **k: seen.append(a) or real(*a, **k))
    return seen


def hits(answer):
    assert answer.status_code == 200
    return [hit["id"] for hit in answer.json()["hits"]]


def expected(matrix, exclude=()):
    return [row for row, _ in oracle.hits(matrix, [oracle.Seed(3)], limit=5, exclude=exclude)]


KINDS = {
    "dense, integers": {},
    "sparse, text": {
        "encoding": "sparse",
        "ids": pa.array([f"{'é' * (row % 3)}{row}/x?%" for row in range(ITEMS)]),
        "attributes": {"title": pa.array([f"Title {row}" if row % 5 else None for row in range(ITEMS)])},
    },
    "dense, large integers": {
        "ids": pa.array([2**53 + 7 * row - 200 for row in range(ITEMS)]),
        "attributes": {"n": pa.array([row if row % 4 else None for row in range(ITEMS)], pa.int64())},
    },
}
SPARSE = random_matrix(3, ITEMS, density=0.1)
VALUES = {
    "limit": ["1", "5", "10", "50", "51", "0", "-1", "007", "1e1", "1001", "", "x", "1.0"],
    "offset": ["0", "3", "40", "200", "201", "10000", "-1", "00", ""],
    "with_payload": ["true", "false"],
    "score_threshold": ["0.5"],
    "id": ["4", ""],
    "other": ["1"],
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Of each kind, with and without hidden items: (matrix, ids, rows that cannot be hits, both clients)."""
    made = {}
    for name, options in KINDS.items():
        matrix = SPARSE if "sparse" in name else MATRICES[0]
        store = write_store(tmp_path_factory.mktemp("fast_path"), matrix, shards=3, **options)
        table = local_table(Snapshot(store), POOL)
        ids = table.items.ids.to_pylist()
        for hidden in ((), (2, 5, 30)):
            for row in hidden:
                hide_item(store, table.items, ids[row], True)
            service = service_of(store, cache=0)
            service.hide(read_hidden(store))
            asyncio.run(service.filters.selection(service.table, service.hidden, ""))
            app = client_of(service, store)._transport.app
            made[name, bool(hidden)] = (matrix, ids, set(hidden), app, app.app.app)
    return made


async def ask(app, target):
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        return await client.get(target)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_it_answers_what_the_application_behind_it_answers(worlds, data):
    _, ids, _, app, behind = worlds[data.draw(st.sampled_from(sorted(worlds)))]
    row = data.draw(st.integers(0, ITEMS - 1))
    id_ = data.draw(st.sampled_from([str(ids[row]), str(ids[row]), str(ids[row]), "nobody", f"0{ids[row]}", "-0", ""]))
    names = st.lists(st.sampled_from(sorted(VALUES)), max_size=3)
    query = [f"{name}={data.draw(st.sampled_from(VALUES[name]))}" for name in data.draw(names)]
    path = f"/v1/items/{quote(id_, safe='')}/similar"
    if data.draw(st.booleans()):
        path, query = "/v1/similar", [f"id={quote(id_, safe='')}", *query]
    target = f"{path}?{'&'.join(query)}"
    one, other = asyncio.run(ask(app, target)), asyncio.run(ask(behind, target))
    assert (one.status_code, one.content) == (other.status_code, other.content)
    told = [dict(answer.headers) for answer in (one, other)]
    assert told[0].pop("x-content-type-options") == "nosniff"
    assert ["total;dur=" in headers.pop("server-timing", "") for headers in told] == [one.status_code == 200] * 2
    assert told[0] == told[1]


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("hidden", [False, True])
async def test_every_item_against_the_oracle_without_the_application(worlds, parsed, name, hidden):
    matrix, ids, away, app, _ = worlds[name, hidden]
    rows = {str(id_): row for row, id_ in enumerate(ids)}
    for row, id_ in enumerate(ids):
        for limit, offset in ((10, 0), (3, 2)):
            answer = await ask(app, f"/v1/similar?id={quote(str(id_), safe='')}&limit={limit}&offset={offset}")
            told = [(rows[str(hit["id"])], np.float32(hit["score"])) for hit in answer.json()["hits"]]
            right = oracle.hits(matrix, [oracle.Seed(row)], limit=limit, offset=offset, exclude=away)
            assert told == [(other, np.float32(score)) for other, score in right]
            assert {type(hit["id"]) for hit in answer.json()["hits"]} <= {type(ids[0]), str}
    assert not parsed


@pytest.mark.parametrize(
    ("encoding", "items", "hide"), [("dense", 700, 250), ("dense", 700, 255), ("sparse", 500, 150)]
)
async def test_hits_that_do_not_stand_among_the_first_are_found(tmp_path, encoding, items, hide):
    matrix = random_matrix(9, items, density=0.97, levels=900)
    store = write_store(tmp_path, matrix, encoding)
    table = local_table(Snapshot(store), POOL)
    away = {row for row, _ in oracle.hits(matrix, [oracle.Seed(3)], limit=hide)}
    for row in away:
        hide_item(store, table.items, row, True)
    service = service_of(store)
    service.hide(read_hidden(store))
    await service.filters.selection(service.table, service.hidden, "")
    async with client_of(service, store) as client:
        for row in (3, 4, items - 1):
            for limit, offset in ((5, 0), (10, 0), (50, 0), (50, 200)):
                answer = await client.get(f"/v1/items/{row}/similar?limit={limit}&offset={offset}")
                right = oracle.hits(matrix, [oracle.Seed(row)], limit=limit, offset=offset, exclude=away)
                assert [(hit["id"], np.float32(hit["score"])) for hit in answer.json()["hits"]] == right


async def test_out_of_memory_it_answers_as_the_application_behind_it(store):
    app, other = (client_of(service_of(store), store)._transport.app for _ in range(2))
    for target in ("/v1/items/3/similar", "/v1/similar?id=7&limit=3&offset=2"):
        told = []
        for each in (app, other.app.app):
            await ask(each, target)
            answer = await ask(each, target)
            headers = dict(answer.headers)
            assert headers.pop("server-timing").startswith("total;dur=")
            headers.pop("x-content-type-options", None)
            told.append((answer.status_code, answer.content, headers))
        assert told[0] == told[1]
        assert told[0][2]["x-cache"] == "memory"


async def test_the_second_answer_is_out_of_memory(service, store, parsed):
    async with client_of(service, store) as client:
        answers = [await client.get(TARGET) for _ in range(3)]
        assert not parsed
        assert [answer.headers["x-cache"] for answer in answers] == ["miss", "memory", "memory"]
        assert [answer.headers.get("x-shards") for answer in answers] == ["0", None, None]
        assert {answer.content for answer in answers} == {answers[0].content}
        assert len({answer.headers["etag"] for answer in answers}) == 1
        assert (await client.get("/v1/items/3/similar?limit=6")).headers["x-cache"] == "miss"
        same = await client.get(TARGET, headers={"if-none-match": answers[0].headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        assert (await client.post(TARGET)).status_code == 405
        assert (await client.head(TARGET)).headers["etag"] == answers[0].headers["etag"]


async def test_a_switch_and_a_hidden_item_are_seen_at_once(service, store):
    async with client_of(service, store) as client:
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[0])
        gone = expected(MATRICES[0])[0]
        hide_item(store, service.opened().items, gone, True)
        service.hide(read_hidden(store))
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[0], exclude={gone})
        hide_item(store, service.opened().items, gone, False)
        service.hide(read_hidden(store))
        write_store(store.root, MATRICES[1])
        service.serve(local_table(Snapshot(store), POOL))
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[1])
        store.rollback()
        service.serve(local_table(Snapshot(store), POOL))
        assert hits(await client.get(TARGET)) == expected(MATRICES[0])


async def test_the_default_filter_holds(tmp_path):
    years = pa.array([row % 7 for row in range(ITEMS)], pa.int64())
    store = write_store(tmp_path, MATRICES[0], attributes={"year": years})
    only = {"recent": {"must": [{"key": "year", "range": {"gte": 3}}]}}
    service = service_of(store, filters=only, default_filter="recent")
    old = {row for row in range(ITEMS) if row % 7 < 3}
    async with client_of(service, store) as client:
        for _ in range(3):
            assert hits(await client.get(TARGET)) == expected(MATRICES[0], exclude=old)


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


async def test_following_the_list_of_hidden_items_changes_nothing_where_none_is(service, store):
    async with client_of(service, store) as client:
        await client.get(TARGET)
        for _ in range(3):
            service.hide(read_hidden(store, service.hidden))
            assert (await client.get(TARGET)).headers["x-cache"] == "memory"


async def test_rows_elsewhere_and_answers_in_redis_are_for_the_application(service, store, parsed):
    service.serve(actor_table(service.table))
    async with client_of(service, store) as client:
        assert hits(await client.get(TARGET)) == expected(MATRICES[0])
    assert len(parsed) == 1

    class Shared:
        async def get(self, _):
            return b"out of Redis"

    service = service_of(store, redis_classes=frozenset({"similar"}))
    service.cache.redis = Shared()
    async with client_of(service, store) as client:
        assert (await client.get(TARGET)).content == b"out of Redis"


async def test_a_key_is_asked_for_before_anything(service, store):
    async with client_of(service, store, api_key="k") as client:
        for _ in range(3):
            answer = await client.get(TARGET, headers={"authorization": "Bearer k"})
            assert hits(answer) == expected(MATRICES[0])
            assert answer.headers["cache-control"] == "private, no-cache"
        assert (await client.get(TARGET)).status_code == 401


async def test_it_answers_below_a_prefix(service, store, parsed):
    app = client_of(service, store)._transport.app
    transport = httpx.ASGITransport(app, root_path="/shop")
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        assert hits(await client.get(f"/shop{TARGET}")) == expected(MATRICES[0])
    assert not parsed


async def test_answers_stay_within_the_memory_of_the_cache(store):
    service = service_of(store, cache=40_000)
    async with client_of(service, store) as client:
        for row in range(ITEMS):
            for _ in range(2):
                await client.get(f"/v1/items/{row}/similar")
        assert 20_000 < service.cache.memory.bytes <= 40_000
    off = client_of(service_of(store, cache=0), store)
    assert [(await off.get(TARGET)).headers["x-cache"] for _ in range(3)] == ["miss"] * 3
