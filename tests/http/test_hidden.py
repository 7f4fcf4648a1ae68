"""Hiding items over HTTP: what it keeps out, and who may."""

import httpx
import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.api import build_api
from simshard.shards.hidden import Hidden, read_hidden
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.builder import write_store
from tests.support.tables import POOL
from tests.support.titled_store import MATRIX, write_titled


@pytest.fixture
def store(tmp_path):
    return write_titled(tmp_path / "store")


@pytest.fixture
async def client(store):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    app = build_api(service, store, "k3y", dict, "adm1n")
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"authorization": "Bearer adm1n"}
    async with httpx.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
        yield client


async def test_a_hidden_item_is_in_no_answer_at_once(client):
    similar = "/v1/items/3/similar?limit=100"
    before = [hit["id"] for hit in (await client.get(similar)).json()["hits"]]
    gone = before[0]
    answer = await client.put(f"/v1/items/{gone}/hidden")
    assert (answer.status_code, answer.json()) == (200, {"id": gone, "hidden": True, "version": 1})
    assert [hit["id"] for hit in (await client.get(similar)).json()["hits"]] == before[1:]
    many = {"positive": [1, 2, 3], "limit": 100, "fallback": {"order_by": "n"}}
    assert gone not in [hit["id"] for hit in (await client.post("/v1/recommend", json=many)).json()["hits"]]
    ranked = (await client.post("/v1/rank", json={"positive": [3], "candidates": [gone, before[1]]})).json()
    assert ([hit["id"] for hit in ranked["hits"]], ranked["unranked_ids"]) == ([before[1]], [gone])
    found = (await client.get("/v1/items", params={"q": f"Title {gone}"})).json()["items"]
    assert gone not in [item["id"] for item in found]
    assert gone not in [item["id"] for item in (await client.get("/v1/items?limit=100")).json()["items"]]
    table = pa.ipc.open_stream(
        (await client.post("/v1/similar/bulk", json={"ids": [3], "limit": 50})).content
    ).read_all()
    assert table["neighbor"].to_pylist() == before[1:]
    assert (await client.get(f"/v1/items/{gone}")).json()["hidden"] is True
    seeded = (await client.get(f"/v1/items/{gone}/similar?limit=100")).json()["hits"]  # what it is like can be asked
    assert [hit["id"] for hit in seeded] == [row for row, _ in oracle.hits(MATRIX, [oracle.Seed(gone)], limit=100)]
    answer = await client.delete(f"/v1/items/{gone}/hidden")
    assert answer.json() == {"id": gone, "hidden": False, "version": 2}
    again = await client.get(similar)
    assert [hit["id"] for hit in again.json()["hits"]] == before
    assert again.headers["x-cache"] == "memory"  # the answer of the same hidden items, which are none


async def test_changes_need_the_admin_key(client, store):
    for method, url in [
        ("PUT", "/v1/items/3/hidden"),
        ("DELETE", "/v1/items/3/hidden"),
        ("POST", "/v1/snapshots/rollback"),
        ("POST", f"/v1/snapshots/{store.resolve()}/activate"),
    ]:
        for key, status in (("k3y", 403), ("wrong", 401), ("", 401)):
            answer = await client.request(method, url, headers={"authorization": f"Bearer {key}"})
            assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert read_hidden(store) == Hidden()
    answer = await client.put("/v1/items/none/hidden")
    assert answer.status_code == 404


@pytest.mark.parametrize("path", ["3/hidden", "3/hidden%0A", "3%2Fhidden", "3/hidden/", "x%0A/hidden"])
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
async def test_no_way_of_writing_the_path_passes_the_guard(client, store, method, path):
    answer = await client.request(method, f"/v1/items/{path}", headers={"authorization": "Bearer k3y"})
    assert answer.status_code == 403
    assert read_hidden(store) == Hidden()


async def test_both_keys_can_be_sent(client):
    headers = {"authorization": "Bearer adm1n", "x-api-key": "k3y"}
    assert (await client.put("/v1/items/3/hidden", headers=headers)).status_code == 200


async def test_without_an_admin_key_nothing_can_be_changed(store):
    service = Service(Cache(Lru(0), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    transport = httpx.ASGITransport(build_api(service, store, None, dict))
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        for headers in ({}, {"authorization": "Bearer "}, {"x-api-key": ""}):
            answer = await client.put("/v1/items/3/hidden", headers=headers)
            assert answer.status_code == 403
            assert "SIMSHARD_ADMIN_KEY" in answer.json()["detail"]
        assert (await client.get("/v1/items/3")).status_code == 200


async def test_snapshots_are_activated_and_rolled_back(client, store):
    first = store.resolve()
    write_store(store.root, MATRIX)
    second = store.resolve()
    assert (await client.post("/v1/snapshots/rollback")).json() == {"active": first, "previous": []}
    answer = await client.post(f"/v1/snapshots/{second}/activate")
    assert answer.json() == {"active": second, "previous": [first]}
    for name in ("20200101T000000Z-000000", "..%2F..%2Fetc"):
        assert (await client.post(f"/v1/snapshots/{name}/activate")).status_code == 404
    assert (await client.post("/v1/snapshots/rollback")).status_code == 200
    assert (await client.post("/v1/snapshots/rollback")).status_code == 404
