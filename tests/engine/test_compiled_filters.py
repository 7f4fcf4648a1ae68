"""Filters by name, and filters compiled once."""

import orjson

from simshard.serve.engine.batch import answer_batch
from simshard.serve.engine.cache import Lru
from simshard.serve.schema.requests import RecommendRequest
from simshard.serve.schema.validation import parse
from tests.support.worlds import DEFAULT, make_service, recommend


def test_named_filters_and_what_they_are_made_of(worlds):
    world = worlds["dense", 4]
    named = {"clean": DEFAULT, "old": {"must": [{"key": "year", "range": {"lt": 1993}}, {"filter": {**DEFAULT}}]}}
    service = make_service(world.services[False, False].table, filters=named)
    for given_filter, plain in [
        ("clean", DEFAULT),
        (
            {"must": [{"filter": "clean"}, {"key": "year", "is_null": False}]},
            {"must": [{"key": "year", "is_null": False}], **DEFAULT},
        ),
        ("old", {"must": [{"key": "year", "range": {"lt": 1993}}], **DEFAULT}),
    ]:
        by_name = recommend(service, {"positive": [1, 2], "filter": given_filter, "limit": 100})
        assert by_name == recommend(service, {"positive": [1, 2], "filter": plain, "limit": 100})


def test_one_compilation_for_many_requests_and_bounded_memory(worlds, monkeypatch):
    from simshard.serve.engine import compiled_filters

    compiled = []
    real = compiled_filters.compile_filter
    monkeypatch.setattr(compiled_filters, "compile_filter", lambda *a, **k: compiled.append(a) or real(*a, **k))
    service = make_service(worlds["dense", 3].services[False, False].table)
    for limit in range(1, 20):
        recommend(service, {"positive": [1], "limit": limit, "filter": {"must": [{"key": "year", "is_null": False}]}})
    assert len(compiled) == 1
    service.filters._kept = Lru(4_000)
    for year in range(200):
        given_filter = {"must": [{"key": "year", "match": {"value": year}}]}
        recommend(service, {"positive": [1], "filter": given_filter})
        assert service.filters._kept.bytes <= 4_000


async def test_a_filter_is_compiled_once_for_all_who_ask_at_once(worlds, monkeypatch):
    from simshard.serve.engine import compiled_filters

    compiled = []
    real = compiled_filters.compile_filter
    monkeypatch.setattr(compiled_filters, "compile_filter", lambda *a, **k: compiled.append(a) or real(*a, **k))
    service = make_service(worlds["dense", 3].services[False, False].table)
    body = {"positive": [1], "filter": {"must": [{"key": "year", "range": {"gt": 1991}}]}}
    await answer_batch(service, [{**body, "limit": limit} for limit in range(1, 30)])
    assert len(compiled) == 1
    text = {"must": [{"key": "title", "match": {"any": ["x" * 10_000]}}]}
    recommend_in_loop = service.recommend(parse(RecommendRequest, {"positive": [1], "filter": text}))
    await service.answer(recommend_in_loop)
    assert service.filters._kept.bytes > 10_000  # the text that names it counts


async def test_who_waits_for_the_same_filter_is_told_the_place_in_the_own_request(worlds):
    service = make_service(worlds["dense", 1].services[False, False].table)
    good, bad = ({"filter": {"must": [{"key": key, "is_null": False}]}, "factor": 2} for key in ("year", "nothing"))
    requests = [{"positive": [1], "boost": boosts} for boosts in ([bad], [good, bad], [good, good, bad])]
    told = [orjson.loads(body)["field"] for body in await answer_batch(service, requests)]
    assert told == [f"boost[{place}].filter.must[0].key" for place in range(3)]
