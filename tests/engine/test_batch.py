"""Many questions in one: one call to each shard, and an error of one stands in its place."""

import asyncio
import json

from simshard.serve.engine.batch import answer_batch
from simshard.serve.schema.requests import RecommendRequest
from simshard.serve.schema.validation import parse
from tests.support.worlds import make_service


def test_a_batch_is_one_call_to_each_shard(worlds):
    world = worlds["dense", 3]
    table = world.services[True, False].table
    service = make_service(table)
    requests = [{"positive": [i % 20, 25], "limit": 3} for i in range(100)]
    before = [transport._actor.calls for transport in table.transports]
    bodies = asyncio.run(answer_batch(service, requests))
    assert [transport._actor.calls - calls for transport, calls in zip(table.transports, before, strict=True)] == [
        1 for _ in before
    ]
    alone = [asyncio.run(service.answer(service.recommend(parse(RecommendRequest, body)))).body for body in requests]
    assert bodies == alone


def test_an_error_of_one_request_of_a_batch_stands_in_its_place(worlds):
    service = make_service(worlds["sparse", 2].services[False, False].table)
    requests = [
        {"positive": [1]},
        {"positive": ["nobody"]},
        {"positive": [1], "filter": {"must": [{"key": "colour", "match": {"value": "red"}}]}},
        7,
        {"positive": [1], "limit": 0},
        {"positive": [2]},
    ]
    for group in (requests, requests * 20):
        found = [json.loads(body) for body in asyncio.run(answer_batch(service, group))]
        assert [each.get("status", 200) for each in found[:6]] == [200, 404, 422, 422, 422, 200]
        assert found[2]["field"] == "filter.must[0].key"
        assert set(found[2]["attributes"]) == {"title", "type", "year", "rating", "tags"}
        assert found[4]["field"] == "limit"
        assert found[0]["hits"]
        assert len(found) == len(group)
