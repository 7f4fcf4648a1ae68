"""The HTTP face without Ray: the ASGI application over a store, asked through httpx."""

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.access import MAX_BODY
from simshard.serve.http.api import build_api
from simshard.shards.errors import ShardUnavailable
from simshard.shards.hidden import Hidden
from simshard.shards.store import Snapshot
from tests import oracle
from tests.builder import random_matrix, write_store

ITEMS = 30
MATRIX = random_matrix(7, ITEMS, density=0.8)
IDS = [*(f"id {row}" for row in range(ITEMS - 2)), "a/b?c#d%", "é"]
POOL = ThreadPoolExecutor(2)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    ids = pa.array(IDS)
    titles = pa.array([f"Title {row}" if row else None for row in range(ITEMS)])
    years = pa.array([2000 + row % 10 for row in range(ITEMS)], pa.int64())
    kinds = pa.array(["TV", "Movie", None] * (ITEMS // 3))
    attributes = {"title": titles, "year": years, "kind": kinds}
    return write_store(tmp_path_factory.mktemp("api"), MATRIX, ids=ids, attributes=attributes)


@pytest.fixture
def service(store):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    return service


def client_of(service, store, api_key=None, admin_key=None):
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
            "hidden": 0,
            "problem": None if name else "the shard is damaged",
        }

    app = build_api(service, store, api_key, health, admin_key)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


@pytest.fixture
async def client(service, store):
    async with client_of(service, store) as client:
        yield client


def printed(hits):
    return [(IDS.index(hit["id"]), np.float32(hit["score"])) for hit in hits]


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
    slashed = await client.get("/v1/items/a%2Fb%3Fc%23d%25/similar")
    assert slashed.json() == answer.json()
    assert (await client.get("/v1/items/a/b%3Fc%23d%25")).json()["id"] == "a/b?c#d%"


async def test_item_and_score(client):
    body = (await client.get("/v1/items/id 5")).json()
    assert (body["id"], body["title"], body["hidden"]) == ("id 5", "Title 5", False)
    assert body["payload"] == {"title": "Title 5", "year": 2005}
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
    payload = {"title": "Title 10", "year": 2000, "kind": "Movie"}
    assert body["items"][1] == {"id": "id 10", "title": "Title 10", "payload": payload}
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
    service.serve(local_table(Snapshot(store), POOL))
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


async def test_similar_takes_the_same_options_as_recommend(client):
    options = {
        "limit": 4,
        "filter": {"must": [{"key": "year", "range": {"gte": 2003}}]},
        "boost": [{"filter": {"must": [{"key": "kind", "match": {"value": "TV"}}]}, "factor": 1.5}],
        "group_by": "kind",
        "group_size": 2,
        "fallback": {"order_by": "year"},
        "exclude_ids": ["id 4"],
        "explain": True,
        "with_payload": False,
    }
    posted = await client.post("/v1/recommend", json={"positive": ["id 3"], **options})
    params = {name: value if name == "group_by" else json.dumps(value) for name, value in options.items()}
    got = await client.get("/v1/items/id 3/similar", params=params)
    assert got.status_code == 200, got.text
    assert got.json() == posted.json()
    assert len(got.json()["hits"]) == 4
    diverse = await client.get("/v1/similar", params={"id": "id 3", "diversity": 0.7, "with_payload": "False"})
    posted = await client.post("/v1/recommend", json={"positive": ["id 3"], "diversity": 0.7, "with_payload": False})
    assert diverse.json() == posted.json()


async def test_a_fallback_answers_for_an_unknown_item(client):
    fallback = json.dumps({"order_by": "year"})
    body = (await client.get("/v1/similar", params={"id": "none", "limit": 3, "fallback": fallback})).json()
    assert body["missing_ids"] == ["none"]
    assert [(hit["id"], hit["score"], hit["source"]) for hit in body["hits"]] == [
        ("id 9", None, "fallback"),
        ("id 19", None, "fallback"),
        ("é", None, "fallback"),
    ]


async def test_rank(client):
    body = {"positive": ["id 3"], "negative": ["id 20"], "candidates": ["id 7", "nobody", "id 3", "id 9", "id 11"]}
    answer = (await client.post("/v1/rank", json=body)).json()
    seeds = [oracle.Seed(3), oracle.Seed(20, 1.0, True)]
    others = set(range(ITEMS)) - {7, 9, 11}
    expected = oracle.hits(MATRIX, seeds, exclude=others)
    assert printed(answer["hits"]) == expected
    assert answer["missing_ids"] == ["nobody"]
    assert set(answer["unranked_ids"]) == {"id 3"} | {f"id {row}" for row in {7, 9, 11} - {row for row, _ in expected}}
    await problem(
        client, 422, "candidates[1]", to="/v1/rank", json={"positive": ["id 1"], "candidates": ["id 2", "id 2"]}
    )
    await problem(client, 422, "candidates", to="/v1/rank", json={"positive": ["id 1"], "candidates": []})
    await problem(client, 422, "limit", to="/v1/rank", json={"positive": ["id 1"], "candidates": ["id 2"], "limit": 3})
    await problem(client, 404, to="/v1/rank", json={"positive": ["none"], "candidates": ["id 2"]})


async def test_batch(client):
    requests = [{"positive": ["id 1"]}, {"positive": ["none"]}, {"positive": ["id 2"], "limit": "many"}, None]
    answer = await client.post("/v1/recommend/batch", json={"requests": requests})
    assert answer.status_code == 200
    first, *problems = answer.json()["responses"]
    assert first == (await client.post("/v1/recommend", json=requests[0])).json()
    assert [(each["status"], each.get("field")) for each in problems] == [(404, None), (422, "limit"), (422, "body")]
    await problem(client, 422, "requests", to="/v1/recommend/batch", json={"requests": []})
    await problem(client, 422, "requests", to="/v1/recommend/batch", json={"requests": [{}] * 1001})
    large = {"requests": [{"positive": ["id 1"], "limit": 1000}] * 101}
    await problem(client, 422, "requests", to="/v1/recommend/batch", json=large)


async def test_bulk_is_an_arrow_stream(client, store):
    answer = await client.post("/v1/similar/bulk", json={"ids": ["id 3", "nobody", "id 9"], "limit": 5})
    assert answer.headers["content-type"] == "application/vnd.apache.arrow.stream"
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.metadata == {b"snapshot": store.resolve().encode(), b"missing_ids": b'["nobody"]'}
    expected = [("id 3", hit) for hit in oracle.hits(MATRIX, [oracle.Seed(3)], limit=5)]
    expected += [("id 9", hit) for hit in oracle.hits(MATRIX, [oracle.Seed(9)], limit=5)]
    rows = table.to_pylist()
    assert [(row["id"], IDS.index(row["neighbor"]), row["score"]) for row in rows] == [
        (id_, row, float(score)) for id_, (row, score) in expected
    ]
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5] * 2
    for body, field in [
        ({"ids": ["id 1", None]}, "ids[1]"),
        ({"ids": [1.5]}, "ids[0]"),
        ({"ids": [True]}, "ids[0]"),
        ({"ids": ["id 1", "\ud800"]}, "ids[1]"),
        ({"ids": "id 1"}, "ids"),
        ({"ids": ["id 1"] * 1001, "limit": 1000}, "ids"),
        ({"ids": ["id 1"], "filter": {"must": [{"key": "x", "is_null": True}]}}, "filter.must[0].key"),
    ]:
        await problem(client, 422, field, to="/v1/similar/bulk", json=body)


async def test_get_answers_304_to_who_has_the_answer(client, service, store):
    urls = ["/v1/items/id 3/similar?limit=3", "/v1/similar?id=id 3", "/v1/items/id 3", "/v1/items?q=title"]
    tags = set()
    for url in [*urls, "/v1/score?a=id 1&b=id 2", "/v1/snapshots"]:
        answer = await client.get(url)
        etag = answer.headers["etag"]
        assert answer.headers["cache-control"] == "no-cache"
        tags.add(etag)
        for given in (etag, f"W/{etag}", f'"x", {etag}'):
            again = await client.get(url, headers={"if-none-match": given})
            assert (again.status_code, again.content) == (304, b"")
            assert (again.headers["etag"], again.headers["cache-control"]) == (etag, "no-cache")
        assert (await client.get(url, headers={"if-none-match": '"other"'})).status_code == 200
    assert len(tags) == 6
    etag = (await client.get(urls[0])).headers["etag"]
    service.hide(Hidden(1, (("id 9", ""),)))
    hidden = await client.get(urls[0], headers={"if-none-match": etag})
    assert (hidden.status_code, hidden.headers["etag"] != etag) == (200, True)
    service.hide(Hidden(2))
    assert (await client.get(urls[0], headers={"if-none-match": etag})).status_code == 304
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    service.serve(local_table(Snapshot(store), POOL))
    assert (await client.get(urls[0], headers={"if-none-match": etag})).status_code == 200
    store.rollback()
    async with client_of(service, store, "k3y") as private:
        headers = {"x-api-key": "k3y"}
        assert (await private.get(urls[0], headers=headers)).headers["cache-control"] == "private, no-cache"


async def test_a_snapshot_that_another_replica_answers_from_already_is_waited_for(client, service, store):
    first = service.table
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    second = local_table(Snapshot(store), POOL)
    later = asyncio.get_running_loop().call_later(0.3, service.serve, second)
    answer = await client.get("/v1/items/id 3/similar", params={"snapshot": second.name})
    assert (answer.status_code, answer.json()["snapshot"]) == (200, second.name)
    assert later.cancelled() is False
    assert service.names == [second.name, first.name] and service.opened(first.name) is first
    store.rollback()


async def test_a_batch_is_of_one_snapshot(client, service, store):
    first = service.table
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    second = local_table(Snapshot(store), POOL)
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(service.serve, second))
    requests = [{"positive": [f"id {i % 20}", "id 25"], "limit": 1 + i % 40} for i in range(400)]
    body = (await client.post("/v1/recommend/batch", json={"requests": requests})).json()
    assert len({answer["snapshot"] for answer in body["responses"]}) == 1
    assert service.table is second
    service.serve(first)
    store.rollback()


async def test_an_explanation_of_too_many_lines_is_refused(client):
    from simshard.serve.engine import pipeline as ranking

    body = {"positive": ["id 1", "id 2"], "explain": True, "limit": 10}
    largest, ranking.MAX_LINES = ranking.MAX_LINES, 15
    try:
        await problem(client, 422, "explain", json=body)
    finally:
        ranking.MAX_LINES = largest


async def test_a_partial_answer_has_no_etag(client, service):
    class Away:
        remote = False

        async def scores(self, *_):
            raise ShardUnavailable("away")

        def __init__(self, inner):
            self.search = inner.search

    service.serve(replace(service.table, transports=tuple(map(Away, service.table.transports))))
    answer = await client.get("/v1/items/id 3/similar?explain=true")
    assert answer.json()["partial"]
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_pages_stay_on_a_snapshot_while_it_is_open(client, service, store):
    first = service.table
    write_store(store.root, MATRIX[::-1, ::-1].copy(), ids=pa.array(IDS))
    service.serve(local_table(Snapshot(store), POOL))
    second = service.table
    assert service.names == [second.name, first.name]
    for name, matrix in ((first.name, MATRIX), (second.name, MATRIX[::-1, ::-1])):
        for offset in (0, 5):
            params = {"limit": 5, "offset": offset, "snapshot": name}
            body = (await client.get("/v1/items/id 3/similar", params=params)).json()
            assert body["snapshot"] == name
            assert printed(body["hits"]) == oracle.hits(matrix, [oracle.Seed(3)], limit=5, offset=offset)
    assert (await client.get("/v1/snapshots")).json()["open"] == [second.name, first.name]
    service.close(first)
    detail = await problem(client, 409, json={"positive": ["id 3"], "snapshot": first.name})
    assert first.name in detail
    assert second.name in detail
    await problem(client, 409, url=f"/v1/items/id 3/similar?snapshot={first.name}")
    store.rollback()


async def test_the_order_of_seeds_makes_no_other_cache_entry(client):
    one = await client.post("/v1/recommend", json={"positive": ["id 1", "id 2"], "exclude_ids": ["id 7", "id 8"]})
    two = await client.post("/v1/recommend", json={"positive": ["id 2", "id 1"], "exclude_ids": ["id 8", "id 7"]})
    assert two.headers["x-cache"] == "memory"
    assert one.content == two.content


async def problem(client, status, field=None, to="/v1/recommend", **request):
    method, url = ("POST", to) if "json" in request or "content" in request else ("GET", request.pop("url"))
    if "json" in request:
        request["content"] = json.dumps(request.pop("json"))  # with escapes, which may be no text
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
        ("/v1/similar?id=id 1&limt=3", 422, "limt"),
        ("/v1/similar?id=id 1&limit=3&limit=4", 422, "limit"),
        ("/v1/items/id 1/similar?id=id 2", 422, "id"),
        ("/v1/similar?id=id 1&explain=2", 422, "explain"),
        ("/v1/similar?id=id 1&filter={", 422, "filter"),
        ('/v1/similar?id=id 1&filter={"must":[{"key":"genre","match":{"value":1}}]}', 422, "filter.must[0].key"),
        ('/v1/similar?id=id 1&filter={"must":[{"key":"year","range":{"gte":"x"}}]}', 422, "filter.must[0].range.gte"),
        ("/v1/similar?id=id 1&boost=[1]", 422, "boost[0]"),
        ("/v1/similar?id=id 1&diversity=0.5&offset=2", 422, "offset"),
        ("/v1/similar?id=id 1&diversity=2", 422, "diversity"),
        ("/v1/similar?id=id 1&group_size=2", 422, "group_size"),
        ("/v1/similar?id=id 1&group_by=genre", 422, "group_by"),
        ("/v1/similar?id=id 1&group_by=null", 422, "group_by"),
        ("/v1/similar?id=id 1&group_by=2024", 422, "group_by"),
        ("/v1/similar?id=id 1&filter=2024", 422, "filter"),
        ("/v1/similar?id=id 1&filter=null", 422, "filter"),
        ("/v1/items?q=a&q=b", 422, "q"),
        ("/v1/items?foo=1", 422, "foo"),
        ("/v1/items/id 1?foo=1", 422, "foo"),
        ("/v1/score?a=id 1&b=id 2&snapshot=x", 422, "snapshot"),
        ('/v1/similar?id=id 1&fallback={"order_by":"kind"}', 422, "fallback.order_by"),
        ("/v1/similar?id=id 1&snapshot=20200101T000000Z-000000", 409, None),
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
        ({"positive": ["\ud800"]}, 422, "positive[0]"),
        ({"positive": ["id 1"], "snapshot": "\ud800"}, 422, "snapshot"),
        ({"positive": ["id 1"], "group_by": "\ud800"}, 422, "group_by"),
        ({"positive": ["id 1"], "filter": {"must": [{"key": "\ud800", "is_null": True}]}}, 422, "filter.must[0].key"),
        (
            {"positive": ["id 1"], "filter": {"must": [{"key": "kind", "match": {"any": ["\ud800"]}}]}},
            422,
            "filter.must[0].match.any[0]",
        ),
        ({"positive": ["id 1"], "seed": 1, "name": 2}, 422, "seed"),
        ({"positive": [f"id {i}" for i in range(257)]}, 422, "positive"),
        ({"positive": [str(i) for i in range(200)], "negative": [str(i) for i in range(300, 400)]}, 422, "negative"),
    ],
)
async def test_bad_recommends(client, body, status, field):
    await problem(client, status, field, json=body)


async def test_a_fault_in_a_filter_tells_the_attributes_that_there_are(client):
    attributes = {"title": "string", "year": "int64", "kind": "string"}
    for given, field in [
        ({"must": [{"key": "genre", "match": {"value": "x"}}]}, "filter.must[0].key"),
        ({"must": [{"key": "year", "match": {"like": 1}}]}, "filter.must[0].match.like"),
        ({"must_not": [{"key": "year", "range": {"gte": "x"}}]}, "filter.must_not[0].range.gte"),
        ({"should": [{"key": "kind", "range": {"gte": 1}}]}, "filter.should[0].range"),
        ("clean", "filter"),
    ]:
        answer = await client.post("/v1/recommend", json={"positive": ["id 1"], "filter": given})
        body = answer.json()
        assert (answer.status_code, body["field"], body["attributes"]) == (422, field, attributes)


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
    service.serve(replace(whole, transports=(first, Slow(second, 0.2))))
    await problem(client, 504, json={**body, "timeout_ms": 20})
    await asyncio.sleep(0.25)
    assert (await client.post("/v1/recommend", json=body)).headers["x-cache"] == "memory"  # it was finished for others

    body["limit"] = 4
    service.serve(replace(whole, transports=(first, Slow(second, fails=True))))
    for _ in range(2):
        answer = await client.post("/v1/recommend", json=body)
        assert answer.headers["x-cache"] == "bypass"
        assert (answer.json()["partial"], answer.json()["failed_shards"]) == (True, [1])
    service.serve(replace(whole, transports=(Slow(first, fails=True), Slow(second, fails=True))))
    await problem(client, 503, json=body)
    service.serve(whole)
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
    service.close(service.table)
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
