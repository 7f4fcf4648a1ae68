"""Every feature and mixtures of them equal the oracle: dense and sparse, 1 to 7 shards, both transports."""

import asyncio
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.serve.engine.batch import answer_batch
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.schema.requests import BulkRequest, RankRequest, RecommendRequest, SimilarRequest
from simshard.serve.schema.validation import parse
from simshard.shards.errors import InvalidQuery
from simshard.shards.hidden import Hidden
from simshard.shards.query import FEW, Selection
from simshard.shards.store import Snapshot
from tests import oracle
from tests.builder import random_matrix, write_store
from tests.catalogue import FILTERS, columns_of, items_of
from tests.test_router import AWKWARD, CASES, POOL, actor_table

UNKNOWN = {"key": "x", "is_null": True}
DEFAULT = {"must_not": [{"key": "type", "match": {"value": "OVA"}}]}


def make_service(table, **options):
    service = Service(Cache(Lru(0), None), POOL, **options)
    service.serve(table)
    return service


def answer(service, asked):
    return json.loads(asyncio.run(service.answer(asked)).body)


def recommend(service, body):
    return answer(service, service.recommend(parse(RecommendRequest, body)))


class World:
    """A store, what is in it, and services over it: local, and by calls."""

    def __init__(self, folder, encoding, shards, number):
        count = 23 + shards
        self.directed = number % 5 == 4
        self.matrix = random_matrix(
            number, count, (0.3, 0.9, 1.0)[number % 3], negative=number % 2 == 0, directed=self.directed
        )
        self.items = items_of(count, number)
        batch = (1, 4, 256)[number % 3]
        attributes = columns_of(self.items)
        store = write_store(folder, self.matrix, encoding, shards, batch, attributes=attributes, directed=self.directed)
        table = local_table(Snapshot(store), POOL)
        options = {"filters": {"clean": DEFAULT}, "default_filter": "clean"}
        self.services = {
            (remote, default): make_service(actor_table(table) if remote else table, **(options if default else {}))
            for remote in (False, True)
            for default in (False, True)
        }


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return {case: World(tmp_path_factory.mktemp("world"), *case, number) for number, case in enumerate(CASES)}


@st.composite
def questions(draw, count):
    """A request body for `count` items (ids are rows), with any mixture of features that do not conflict."""
    rows = st.integers(0, count - 1)
    chosen = draw(st.lists(rows, min_size=1, max_size=5, unique=True))
    weights = draw(st.lists(st.sampled_from(AWKWARD), min_size=len(chosen), max_size=len(chosen)))
    split = draw(st.integers(1, len(chosen)))
    seeds = [{"id": row, "weight": weight} for row, weight in zip(chosen, weights, strict=True)]
    body = {
        "positive": seeds[:split],
        "negative": seeds[split:],
        "strategy": draw(st.sampled_from(["sum_scores", "best_score"])),
        "limit": draw(st.integers(1, 30)),
        "exclude_ids": draw(st.lists(rows, max_size=4)),
        "explain": draw(st.booleans()),
    }
    if draw(st.booleans()):
        body["filter"] = draw(FILTERS)
    if draw(st.booleans()):
        factors = st.sampled_from([0.5, 1.2, 3.0, 1.0, 1 / 3])
        boosts = st.builds(lambda f, factor: {"filter": f, "factor": factor}, FILTERS, factors)
        body["boost"] = draw(st.lists(boosts, min_size=1, max_size=2))
    if draw(st.booleans()):
        body["score_threshold"] = draw(st.sampled_from([0.0, 0.25, 0.5, -1.0]))
    if draw(st.booleans()):
        body["diversity"] = draw(st.sampled_from([0.1, 0.5, 1.0, 0.0]))
    if not body.get("diversity") and draw(st.booleans()):
        body["offset"] = draw(st.sampled_from([1, 5, 20, 500]))
    if draw(st.booleans()):
        body["group_by"] = draw(st.sampled_from(["type", "year", "rating"]))
        body["group_size"] = draw(st.integers(1, 3))
    if draw(st.booleans()):
        order = st.sampled_from(["rating", "year"])
        body["fallback"] = {"order_by": draw(order), "direction": draw(st.sampled_from(["desc", "asc"]))}
        if draw(st.booleans()):
            body["positive"] = [{"id": 10_000, "weight": 1.0}]  # unknown: all that is answered fills up
    return body


def seeds_of(body, count):
    given = [(seed, False) for seed in body["positive"]] + [(seed, True) for seed in body.get("negative", [])]
    return [oracle.Seed(seed["id"], seed["weight"], negative) for seed, negative in given if seed["id"] < count]


def expected_answer(world, body, kept_out=()):
    """[(row, float32 score or None)] of what is to be answered."""
    items, matrix = world.items, world.matrix
    seeds = seeds_of(body, len(items))
    allowed = {row for row, item in enumerate(items) if oracle.passes(item, body.get("filter") or {})} - set(kept_out)
    never = set(range(len(items))) - allowed | set(body["exclude_ids"])
    factors = np.ones(len(items))
    for boost in body.get("boost", []):
        for row, item in enumerate(items):
            if oracle.passes(item, boost["filter"]):
                factors[row] *= boost["factor"]
    positive = [seed.weight for seed in seeds if not seed.negative]
    found = []
    if positive:
        found = oracle.scored(matrix, seeds, body["strategy"], never, factors)
        found = oracle.reaching(found, body.get("score_threshold"))
    values = [item.get(body.get("group_by", ""), None) for item in items]
    size = body.get("group_size", 1)
    score_of = dict(found)
    if "group_by" in body:
        found = [(row, score_of[row]) for row in oracle.grouped([row for row, _ in found], values, size)]
    limit, offset = body["limit"], body.get("offset", 0)
    if body.get("diversity"):
        pool = found[: min(10 * limit, 1000)]
        scale = (sum if body["strategy"] == "sum_scores" else max)(positive) if positive else 1.0
        found = oracle.diverse(pool, matrix, body["diversity"], limit, scale, world.directed)
    else:
        found = found[: offset + limit]
    answered = [(row, np.float32(score)) for row, score in found]
    if "fallback" in body:
        key = body["fallback"]["order_by"]
        sign = -1 if body["fallback"]["direction"] == "desc" else 1
        there = {row for row, _ in found} | {seed.row for seed in seeds} | never
        order = [row for row, item in enumerate(items) if item[key] is not None and row not in there]
        order.sort(key=lambda row: (sign * items[row][key], row))
        rows = [row for row, _ in found] + order
        rows = oracle.grouped(rows, values, size) if "group_by" in body else rows
        answered += [(row, None) for row in rows[len(found) :]]
    return answered[offset : offset + limit]


def check_explained(hits, body):
    for hit in hits:
        lines = hit["explain"]
        if hit["score"] is None:
            assert lines == []
            continue
        total = sum(line["contribution"] for line in lines)
        scale = sum(abs(line["contribution"]) for line in lines)
        assert total == pytest.approx(hit["score"], abs=1e-6 * scale + 1e-40)
        for line in lines:
            if "boost" in line:
                assert line["factor"] == body["boost"][line["boost"]]["factor"]


@settings(max_examples=300, deadline=None)
@given(data=st.data(), case=st.sampled_from(CASES), remote=st.booleans(), default=st.booleans())
def test_any_mixture_of_features_equals_the_oracle(worlds, data, case, remote, default):
    world = worlds[case]
    body = data.draw(questions(len(world.items)))
    hidden = data.draw(st.lists(st.integers(0, len(world.items) - 1), max_size=5, unique=True))
    service = world.services[remote, default]
    service.hide(Hidden(1, tuple((row, "") for row in hidden)))
    kept_out = set(hidden)
    if default:
        kept_out |= {row for row, item in enumerate(world.items) if not oracle.passes(item, DEFAULT)}
    found = recommend(service, body)
    answered = [(hit["id"], None if hit["score"] is None else np.float32(hit["score"])) for hit in found["hits"]]
    assert answered == expected_answer(world, body, kept_out)
    assert all((hit["score"] is None) == (hit.get("source") == "fallback") for hit in found["hits"])
    assert not found["partial"]
    if body["explain"]:
        check_explained(found["hits"], body)


@settings(max_examples=80, deadline=None)
@given(data=st.data(), case=st.sampled_from(CASES), remote=st.booleans())
def test_a_ranking_is_the_answer_of_the_candidates_alone(worlds, data, case, remote):
    world = worlds[case]
    count = len(world.items)
    body = data.draw(questions(count))
    body = {k: body[k] for k in body if k in ("positive", "negative", "strategy", "filter", "boost", "score_threshold")}
    if body["positive"][0]["id"] >= count:
        body["positive"] = [{"id": 0, "weight": 1.0}]
        body["negative"] = []
    candidates = data.draw(st.lists(st.integers(0, count + 3), min_size=1, max_size=12, unique=True))
    service = world.services[remote, False]
    service.hide(Hidden())
    found = answer(service, service.rank(parse(RankRequest, {**body, "candidates": candidates})))
    others = [row for row in range(count) if row not in candidates]
    everything = {**body, "limit": 1000, "exclude_ids": others, "explain": False}
    expected = expected_answer(world, everything)
    assert [(hit["id"], np.float32(hit["score"])) for hit in found["hits"]] == expected
    assert found["missing_ids"] == [id_ for id_ in candidates if id_ >= count]
    ranked = {row for row, _ in expected}
    assert found["unranked_ids"] == [id_ for id_ in candidates if id_ < count and id_ not in ranked]


@settings(max_examples=80, deadline=None)
@given(data=st.data(), case=st.sampled_from(CASES), remote=st.booleans())
def test_many_at_once_are_the_answers_one_by_one(worlds, data, case, remote):
    world = worlds[case]
    count = len(world.items)
    ids = data.draw(st.lists(st.integers(0, count + 2), max_size=30))
    limit = data.draw(st.sampled_from([1, 3, 10, 40]))
    given_filter = data.draw(st.none() | FILTERS)
    service = world.services[remote, data.draw(st.booleans())]
    service.hide(Hidden(1, ((3, ""),)))
    request = parse(BulkRequest, {"ids": ids, "limit": limit, "filter": given_filter})
    name, table = asyncio.run(service.nearest(request))
    assert name == service.table.name
    assert table.schema.names == ["id", "rank", "neighbor", "score"]
    assert json.loads(table.schema.metadata[b"missing_ids"]) == [id_ for id_ in ids if id_ >= count]
    expected = []
    for id_ in ids:
        if id_ < count:
            one = {"id": str(id_), "limit": limit, "filter": given_filter, "with_payload": False}
            hits = answer(service, service.similar(parse(SimilarRequest, one)))["hits"]
            expected += [(id_, rank, hit["id"], np.float32(hit["score"])) for rank, hit in enumerate(hits, 1)]
    rows = table.to_pydict()
    found = zip(rows["id"], rows["rank"], rows["neighbor"], map(np.float32, rows["score"]), strict=True)
    assert list(found) == expected


@pytest.mark.parametrize("encoding", ["dense", "sparse"])
def test_filters_on_rows_longer_than_the_stored_best(tmp_path, encoding):
    """Few and many rows left, more and less than the stored 256: every way to read a row gives the same."""
    count = 700
    matrix = random_matrix(5, count, density=0.95, levels=3)
    numbers = pa.array(range(count), pa.int64())
    table = local_table(Snapshot(write_store(tmp_path, matrix, encoding, 3, attributes={"n": numbers})), POOL)
    local, remote = make_service(table), make_service(actor_table(table))
    for left in (0, 1, 5, 40, count // FEW, count // FEW + 1, count // 2, count - 3, count):
        allowed = set(np.random.default_rng(left).choice(count, left, replace=False).tolist())
        given_filter = {"must": [{"key": "n", "match": {"any": sorted(allowed)}}]}
        for seeds in ([3], [3, 400, 699]):
            for limit, offset in ((10, 0), (300, 0), (50, 200)):
                body = {"positive": seeds, "filter": given_filter, "limit": limit, "offset": offset}
                never = set(range(count)) - allowed
                expected = oracle.hits(
                    matrix, [oracle.Seed(row) for row in seeds], exclude=never, limit=limit, offset=offset
                )
                for service in (local, remote):
                    hits = recommend(service, body)["hits"]
                    assert [(hit["id"], np.float32(hit["score"])) for hit in hits] == expected
        request = parse(BulkRequest, {"ids": list(range(0, count, 7)), "limit": 20, "filter": given_filter})
        rows = asyncio.run(local.nearest(request))[1].to_pydict()
        for id_ in range(0, count, 70):
            expected = oracle.hits(matrix, [oracle.Seed(id_)], exclude=set(range(count)) - allowed, limit=20)
            mine = [i for i, each in enumerate(rows["id"]) if each == id_]
            assert [(rows["neighbor"][i], np.float32(rows["score"][i])) for i in mine] == expected


def test_a_selection_travels_as_bits_or_rows():
    import pickle

    for count, left in ((1000, 3), (1000, 300), (1000, 999), (7, 3), (64, 0)):
        mask = np.zeros(count, bool)
        mask[np.random.default_rng(left).choice(count, left, replace=False)] = True
        sent = pickle.dumps(Selection(mask))
        assert len(sent) < count // 8 + 400
        back = pickle.loads(sent)
        assert np.array_equal(back.mask, mask)
        assert back.count == left
        assert (back.rows is None) == (left * FEW > count)


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


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"diversity": 0.5, "offset": 1}, "offset"),
        ({"group_size": 2}, "group_size"),
        ({"group_by": "tags"}, "group_by"),
        ({"group_by": "none"}, "group_by"),
        ({"fallback": {"order_by": "type"}}, "fallback.order_by"),
        ({"fallback": {"order_by": "none"}}, "fallback.order_by"),
        ({"filter": "nothing"}, "filter"),
        ({"filter": {"should": [{"filter": "nothing"}]}}, "filter.should[0].filter"),
        (
            {"boost": [{"filter": {"must": [{"key": "x", "is_null": True}]}, "factor": 2}]},
            "boost[0].filter.must[0].key",
        ),
        ({"boost": [{"filter": "nothing", "factor": 2}]}, "boost[0].filter"),
        ({"boost": [{"filter": {}, "factor": 1e6}] * 7}, "boost"),
    ],
)
def test_options_that_conflict_or_name_what_is_not_there(worlds, options, field):
    service = make_service(worlds["dense", 2].services[False, False].table)
    with pytest.raises(InvalidQuery) as caught:
        recommend(service, {"positive": [1], **options})
    assert caught.value.field == field


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
    from simshard.serve.engine import compiled_filters as selections

    compiled = []
    real = selections.compile_filter
    monkeypatch.setattr(selections, "compile_filter", lambda *a, **k: compiled.append(a) or real(*a, **k))
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
    from simshard.serve.engine import compiled_filters as selections

    compiled = []
    real = selections.compile_filter
    monkeypatch.setattr(selections, "compile_filter", lambda *a, **k: compiled.append(a) or real(*a, **k))
    service = make_service(worlds["dense", 3].services[False, False].table)
    body = {"positive": [1], "filter": {"must": [{"key": "year", "range": {"gt": 1991}}]}}
    await answer_batch(service, [{**body, "limit": limit} for limit in range(1, 30)])
    assert len(compiled) == 1
    text = {"must": [{"key": "title", "match": {"any": ["x" * 10_000]}}]}
    recommend_in_loop = service.recommend(parse(RecommendRequest, {"positive": [1], "filter": text}))
    await service.answer(recommend_in_loop)
    assert service.filters._kept.bytes > 10_000  # the text that names it counts


def test_bulk_takes_little_memory_for_one_item_many_times(worlds):
    world = worlds["sparse", 3]
    count = len(world.items)
    service = make_service(world.services[False, False].table)
    service.hide(Hidden(1, ((3, ""),)))
    ids = [5] * 30_000 + list(range(count)) * 3
    _, table = asyncio.run(service.nearest(parse(BulkRequest, {"ids": ids, "limit": 2})))
    expected = answer(service, service.similar(parse(SimilarRequest, {"id": "5", "limit": 2})))["hits"]
    assert table["neighbor"].to_pylist()[: 2 * len(expected)] == [hit["id"] for hit in expected] * 2
    assert table["id"].to_pylist().count(5) == 30_003 * len(expected)


def test_boosts_that_cancel_each_other_out_are_bound_one_by_one(worlds):
    service = make_service(worlds["dense", 2].services[False, False].table)
    boosts = [{"filter": {}, "factor": 1e6}, {"filter": {}, "factor": 1e-6}]
    with pytest.raises(InvalidQuery) as caught:
        recommend(service, {"positive": [{"id": 1, "weight": 1e34}], "boost": boosts, "explain": True})
    assert caught.value.field == "boost"


def test_pages_are_parts_of_one_list(worlds):
    service = make_service(worlds["sparse", 5].services[False, False].table)
    body = {"positive": [1, 2, 3], "group_by": "year", "group_size": 2, "fallback": {"order_by": "rating"}}
    whole = recommend(service, {**body, "limit": 28})["hits"]
    pages = [recommend(service, {**body, "limit": 4, "offset": offset})["hits"] for offset in range(0, 28, 4)]
    assert [hit for page in pages for hit in page] == whole


def test_a_shard_that_is_away_while_explaining_or_diversifying_makes_the_answer_partial(worlds):
    from simshard.shards.errors import ShardUnavailable

    class NoScores:
        remote = False

        def __init__(self, inner):
            self.search, self.partial, self.nearest = inner.search, inner.partial, inner.nearest

        async def scores(self, *_):
            raise ShardUnavailable("away")

    table = worlds["dense", 2].services[False, False].table
    away = replace(table, transports=(table.transports[0], NoScores(table.transports[1])))
    service = make_service(away)
    last = len(worlds["dense", 2].items) - 1
    for options in ({"explain": True}, {"diversity": 0.5}):
        found = recommend(service, {"positive": [1, last], **options})
        assert (found["partial"], found["failed_shards"]) == (True, [1])
    with pytest.raises(ShardUnavailable):
        answer(service, service.score(last, 1))
