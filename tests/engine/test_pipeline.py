"""Every feature and mixtures of them equal the oracle: dense and sparse, 1 to 7 shards, both transports."""

import asyncio
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.serve.engine.table import local_table
from simshard.serve.schema.requests import BulkRequest, RankRequest
from simshard.serve.schema.validation import parse
from simshard.shards.errors import InvalidQuery
from simshard.shards.hidden import Hidden
from simshard.shards.query import FEW
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.cases import AWKWARD, CASES
from tests.support.catalogue import FILTERS
from tests.support.tables import POOL, actor_table
from tests.support.worlds import DEFAULT, answer, make_service, recommend


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
