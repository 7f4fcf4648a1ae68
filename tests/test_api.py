"""The HTTP face without Ray: the ASGI application over a store, asked through httpx."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.api import build_api
from simshard.serve.cache import Cache, Lru
from simshard.serve.gate import MAX_BODY
from simshard.serve.router import local_table
from simshard.serve.service import Service
from simshard.shards.errors import ShardUnavailable
from simshard.shards.store import Snapshot
from tests import oracle
from tests.builder import random_matrix, write_store

ITEMS = 30
MATRIX = random_matrix(7, ITEMS, density=0.8)
IDS = [f"id {row}" for row in range(ITEMS)]
POOL = ThreadPoolExecutor(2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    ids = pa.array([*IDS[:-2], "a/b?c#d%", "é"])
    titles = pa.array([f"Title {row}" if row else None for row in range(ITEMS)])
    return write_store(tmp_path_factory.mktemp("api"), MATRIX, ids=ids, attributes={"title": titles})


@pytest.fixture
def service(store):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.table = local_table(Snapshot(store), POOL)
    return service


def client_of(service, store, api_key=None):
    def health():
        name = service.table.name if service.table else None
        return {
            "status": "ok" if name else "unavailable",
            "version": "0",
            "snapshot": name,
            "items": None,
            "pairs": None,
            "shards": [],
            "cache": {},
            "problem": None if name else "the shard is damaged",
        }

    transport = httpx.ASGITransport(build_api(service, store, api_key, health), raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(service, store):
    async with client_of(service, store) as client:
        yield client


def printed(hits):
    return [
        (IDS.index(hit["id"]) if hit["id"] in IDS[:-2] else ITEMS - 1 - (hit["id"] != "é"), np.float32(hit["score"]))
        for hit in hits
    ]


async def test_similar(client, store):
    answer = await client.get("/v1/items/id 3/similar?limit=7&offset=2&score_threshold=0.1")
    assert answer.status_code == 200
    body = answer.json()
    assert printed(body["hits"]) == oracle.hits(MATRIX, [oracle.Seed(3)], limit=7, offset=2, threshold=0.1)
    assert body["snapshot"] == answer.headers["x-snapshot"] == store.resolve()
    assert (body["missing_ids"], body["partial"], body["failed_shards"]) == ([], False, [])
    assert body["hits"][0]["payload"]["title"].startswith("Title ")
    assert answer.headers["x-cache"] == "miss"
    assert "total;dur=" in answer.headers["server-timing"]
    again = await client.get("/v1/similar", params={"id": "id 3", "limit": 7, "offset": 2, "score_threshold": 0.1})
    assert again.headers["x-cache"] == "memory"
    assert again.content == answer.content
    bare = await client.get("/v1/items/id 3/similar?with_payload=false")
    assert set(bare.json()["hits"][0]) == {"id", "score"}


async def test_ids_that_fit_no_path(client):
    answer = await client.get("/v1/similar", params={"id": "a/b?c#d%"})
    assert printed(answer.json()["hits"]) == oracle.hits(MATRIX, [oracle.Seed(ITEMS - 2)])
    assert (await client.get("/v1/items/%C3%A9/similar")).status_code == 200


async def test_item_and_score(client):
    body = (await client.get("/v1/items/id 5")).json()
    assert (body["id"], body["title"], body["payload"]) == ("id 5", "Title 5", {"title": "Title 5"})
    assert (await client.get("/v1/items/id 0")).json()["title"] is None
    for a in range(3):
        for b in range(8):
            body = (await client.get("/v1/score", params={"a": f"id {a}", "b": f"id {b}"})).json()
            expected = None if np.isnan(MATRIX[a, b]) else MATRIX[a, b]
            assert (body["score"] if expected is None else np.float32(body["score"])) == expected
    assert (await client.get("/v1/score", params={"a": "id 1", "b": "none"})).status_code == 404


async def test_items_by_title(client):
    body = (await client.get("/v1/items", params={"q": "TÍTLE 1", "limit": 3})).json()
    assert [item["title"] for item in body["items"]] == ["Title 1", "Title 10", "Title 11"]
    assert body["items"][1] == {"id": "id 10", "title": "Title 10", "payload": {"title": "Title 10"}}
    assert body["total"] == 11
    body = (await client.get("/v1/items", params={"q": "a/b?c#d%"})).json()  # an id
    assert [item["id"] for item in body["items"]] == ["a/b?c#d%"]
    body = (await client.get("/v1/items", params={"q": "nothing"})).json()
    assert (body["items"], body["total"]) == ([], 0)
    body = (await client.get("/v1/items?limit=2")).json()
    assert [item["id"] for item in body["items"]] == IDS[:2]
    assert body["items"][0]["title"] is None
    assert body["total"] == ITEMS


async def test_items_without_titles_are_found_by_id(tmp_path):
    store = write_store(tmp_path, MATRIX)
    service = Service(Cache(Lru(0), None), POOL)
    service.table = local_table(Snapshot(store), POOL)
    async with client_of(service, store) as client:
        found = (await client.get("/v1/items?q=7")).json()
        assert ([item["id"] for item in found["items"]], found["total"]) == ([7], 1)
        assert (await client.get("/v1/items?q=x")).json()["total"] == 0


async def test_recommend_with_everything(client):
    seeds = [oracle.Seed(3, 2.5), oracle.Seed(20, 1.0), oracle.Seed(9, 0.1, True)]
    for strategy in ("sum_scores", "best_score"):
        body = {
            "positive": [{"id": "id 3", "weight": 2.5}, "unknown", "id 20"],
            "negative": [{"id": "id 9", "weight": 0.1}],
            "strategy": strategy,
            "limit": 8,
            "offset": 1,
            "exclude_ids": ["id 4", "nobody"],
            "score_threshold": -0.5,
            "explain": True,
        }
        answer = (await client.post("/v1/recommend", json=body)).json()
        expected = oracle.hits(MATRIX, seeds, strategy, [4], 8, 1, -0.5)
        assert printed(answer["hits"]) == expected
        assert answer["missing_ids"] == ["unknown"]
        for hit, (row, score) in zip(answer["hits"], expected, strict=True):
            lines = {line["id"]: line["contribution"] for line in hit["explain"]}
            parts = oracle.contributions(MATRIX, seeds, row, oracle.unit_of(MATRIX, seeds))
            signed = {f"id {seeds[i].row}": float(-value if seeds[i].negative else value) for i, value in parts}
            if strategy == "sum_scores":
                assert lines == {id_: pytest.approx(value) for id_, value in signed.items()}
            else:  # one seed's score
                ((id_, contribution),) = lines.items()
                assert contribution == pytest.approx(signed[id_])
            assert sum(lines.values()) == pytest.approx(float(score), abs=1e-6)


async def test_the_order_of_seeds_makes_no_other_cache_entry(client):
    one = await client.post("/v1/recommend", json={"positive": ["id 1", "id 2"], "exclude_ids": ["id 7", "id 8"]})
    two = await client.post("/v1/recommend", json={"positive": ["id 2", "id 1"], "exclude_ids": ["id 8", "id 7"]})
    assert two.headers["x-cache"] == "memory"
    assert one.content == two.content


async def problem(client, status, field=None, **request):
    method, url = (
        ("POST", "/v1/recommend") if "json" in request or "content" in request else ("GET", request.pop("url"))
    )
    answer = await client.request(method, url, headers={"content-type": "application/json"}, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body.get("field") == field
    assert "Traceback" not in answer.text
    return body["detail"]


@pytest.mark.parametrize(
    ("url", "status", "field"),
    [
        ("/v1/items/none", 404, None),
        ("/v1/items?q=title&limit=0", 422, "limit"),
        (f"/v1/items?q={'t' * 201}", 422, "q"),
        ("/v1/items/none/similar", 404, None),
        ("/v1/similar?id=none", 404, None),
        ("/v1/similar", 422, "id"),
        ("/v1/similar?id=", 422, "id"),
        ("/v1/similar?id=id 1&limit=0", 422, "limit"),
        ("/v1/similar?id=id 1&limit=1001", 422, "limit"),
        ("/v1/similar?id=id 1&limit=ten", 422, "limit"),
        ("/v1/similar?id=id 1&offset=-1", 422, "offset"),
        ("/v1/similar?id=id 1&offset=9991", 422, "offset"),
        ("/v1/similar?id=id 1&score_threshold=nan", 422, "score_threshold"),
        ("/v1/similar?id=id 1&score_threshold=x", 422, "score_threshold"),
        ("/v1/score?a=id 1", 422, "b"),
        ("/v1/nothing", 404, None),
        ("/v2", 404, None),
    ],
)
async def test_bad_gets(client, url, status, field):
    await problem(client, status, field, url=url)


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 422, "positive"),
        ([], 422, "body"),
        ({"positive": []}, 422, "positive"),
        ({"positive": "id 1"}, 422, "positive"),
        ({"positive": [1.5]}, 422, "positive[0]"),
        ({"positive": [True]}, 422, "positive[0]"),
        ({"positive": [None]}, 422, "positive[0]"),
        ({"positive": [{"weight": 1}]}, 422, "positive[0].id"),
        ({"positive": [{"id": "id 1", "weight": 0}]}, 422, "positive[0].weight"),
        ({"positive": [{"id": "id 1", "weight": -1}]}, 422, "positive[0].weight"),
        ({"positive": [{"id": "id 1", "weight": "2"}]}, 422, "positive[0].weight"),
        ({"positive": [{"id": "id 1", "weight": 1e39}]}, 422, "weight"),
        ({"positive": [{"id": "id 1", "heft": 1}]}, 422, "positive[0].heft"),
        ({"positive": ["id 1", "id 2", "id 1"]}, 422, "positive[2]"),
        ({"positive": ["id 1"], "negative": ["id 1"]}, 422, "negative[0]"),
        ({"positive": ["x", "x", "id 1"]}, 422, "positive[1]"),
        ({"positive": ["none"]}, 404, None),
        ({"positive": ["none"], "negative": ["id 1"]}, 404, None),
        ({"positive": ["id 1"], "strategy": "worst"}, 422, "strategy"),
        ({"positive": ["id 1"], "limit": 1001}, 422, "limit"),
        ({"positive": ["id 1"], "limit": "5"}, 422, "limit"),
        ({"positive": ["id 1"], "limit": 1000, "offset": 9001}, 422, "offset"),
        ({"positive": ["id 1"], "filters": {}}, 422, "filters"),
        ({"positive": ["id 1"], "exclude_ids": [1.5]}, 422, "exclude_ids[0]"),
        ({"positive": ["id 1"], "timeout_ms": 0}, 422, "timeout_ms"),
        ({"positive": [f"id {i}" for i in range(257)]}, 422, "positive"),
        ({"positive": [str(i) for i in range(200)], "negative": [str(i) for i in range(300, 400)]}, 422, "negative"),
    ],
)
async def test_bad_recommends(client, body, status, field):
    await problem(client, status, field, json=body)


async def test_bodies_that_are_no_json_or_too_large(client):
    assert "byte 1" in await problem(client, 400, content=b"{")
    await problem(client, 413, content=b" " * (MAX_BODY + 1))

    async def stream():
        for _ in range(20):
            yield b" " * 100_000

    await problem(client, 413, content=stream())
    largest = b'{"positive": ["id 1"]}'.ljust(MAX_BODY)
    assert "application/json" in (await client.post("/v1/recommend", content=largest)).json()["detail"]
    headers = {"content-type": "application/json"}
    assert (await client.post("/v1/recommend", content=largest, headers=headers)).status_code == 200
    wrong_method = await client.get("/v1/recommend")
    assert wrong_method.status_code == 405
    assert wrong_method.headers["content-type"] == "application/problem+json"


class Slow:
    remote = False

    def __init__(self, inner, delay=0.0, fails=False):
        self.inner, self.delay, self.fails = inner, delay, fails

    async def partial(self, query):
        await asyncio.sleep(self.delay)
        if self.fails:
            raise ShardUnavailable("away")
        return await self.inner.partial(query)

    search = scores = partial


async def test_a_late_answer_is_504_and_an_absent_shard_makes_it_partial_and_not_kept(client, service):
    whole = service.table
    first, second = whole.transports
    body = {"positive": ["id 1", "id 25"], "limit": 3}
    service.table = replace(whole, transports=(first, Slow(second, 0.2)))
    await problem(client, 504, json={**body, "timeout_ms": 20})
    await asyncio.sleep(0.25)
    assert (await client.post("/v1/recommend", json=body)).headers["x-cache"] == "memory"  # it was finished for others

    body["limit"] = 4
    service.table = replace(whole, transports=(first, Slow(second, fails=True)))
    for _ in range(2):
        answer = await client.post("/v1/recommend", json=body)
        assert answer.headers["x-cache"] == "bypass"
        assert (answer.json()["partial"], answer.json()["failed_shards"]) == (True, [1])
    service.table = replace(whole, transports=(Slow(first, fails=True), Slow(second, fails=True)))
    await problem(client, 503, json=body)
    service.table = whole
    answer = (await client.post("/v1/recommend", json=body)).json()
    assert not answer["partial"]
    assert printed(answer["hits"]) == oracle.hits(MATRIX, [oracle.Seed(1), oracle.Seed(25)], limit=4)


async def test_operations(client, service, store):
    assert (await client.get("/livez")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["snapshot"] == store.resolve()
    assert (await client.get("/healthz")).json()["status"] == "ok"
    body = (await client.get("/v1/snapshots")).json()
    assert (body["active"], body["serving"]) == (store.resolve(), service.table.name)
    assert body["snapshots"][0]["items"] == ITEMS
    service.table = None
    assert (await client.get("/livez")).status_code == 200
    not_ready = await client.get("/readyz")
    assert not_ready.status_code == 503
    assert not_ready.headers["retry-after"] == "1"
    assert "damaged" in not_ready.text
    assert (await client.get("/healthz")).status_code == 503
    await problem(client, 503, url="/v1/similar?id=id 1")


async def test_the_api_key(service, store):
    async with client_of(service, store, "s3cret") as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cre"}, {"x-api-key": ""}):
            answer = await client.get("/v1/items/id 1", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer s3cret"}, {"x-api-key": "s3cret"}):
            assert (await client.get("/v1/items/id 1", headers=headers)).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 401


async def test_openapi_and_docs_load_nothing_from_other_hosts(client):
    document = (await client.get("/openapi.json")).json()
    for path in (
        "/v1/items/{id}",
        "/v1/items/{id}/similar",
        "/v1/similar",
        "/v1/recommend",
        "/v1/score",
        "/v1/snapshots",
    ):
        (operation,) = document["paths"][path].values()
        assert "$ref" in operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    page = (await client.get("/docs")).text
    assert "http://" not in page.replace("http://test", "")
    assert "https://" not in page
    for asset in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        assert asset in page
        assert (await client.get(asset)).status_code == 200
    assert (await client.get("/docs/../pyproject.toml")).status_code == 404
    assert (await client.get("/docs/main.py")).status_code == 404
