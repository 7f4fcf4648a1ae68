"""What cannot be meant: a problem with the status and the field, and never a trace."""

import pytest

from simshard.serve.http.access import MAX_BODY
from tests.support.api_client import problem


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
