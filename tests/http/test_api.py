"""Every route over a store, against the oracle."""

import json

import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.api_client import client_of, problem
from tests.support.api_store import IDS, ITEMS, MATRIX, printed
from tests.support.builder import write_store
from tests.support.tables import POOL


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


async def test_an_explanation_of_too_many_lines_is_refused(client, monkeypatch):
    monkeypatch.setattr("simshard.serve.engine.pipeline.MAX_LINES", 15)
    body = {"positive": ["id 1", "id 2"], "explain": True, "limit": 10}
    await problem(client, 422, "explain", json=body)


async def test_the_order_of_seeds_makes_no_other_cache_entry(client):
    one = await client.post("/v1/recommend", json={"positive": ["id 1", "id 2"], "exclude_ids": ["id 7", "id 8"]})
    two = await client.post("/v1/recommend", json={"positive": ["id 2", "id 1"], "exclude_ids": ["id 8", "id 7"]})
    assert two.headers["x-cache"] == "memory"
    assert one.content == two.content
