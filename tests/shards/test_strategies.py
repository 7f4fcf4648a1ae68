"""Strategies by their names, and that one more of them is one object."""

import inspect
import json
import pickle
import typing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simshard.cli.queries import recommend
from simshard.serve.engine.encode import explain
from simshard.serve.engine.rerank import search_diverse
from simshard.serve.engine.router import pair_scores, search
from simshard.serve.engine.table import local_table
from simshard.serve.schema.requests import RankArguments, RankRequest, RecommendArguments, RecommendRequest
from simshard.shards import strategies
from simshard.shards.errors import InvalidQuery
from simshard.shards.store import Snapshot
from simshard.shards.strategies import STRATEGIES, Column, Strategy, contribution, strategy_named
from simshard.shards.strategy_names import DEFAULT_STRATEGY, StrategyName
from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.queries import answers, query_of
from tests.support.tables import POOL, actor_table

NAMES = list(STRATEGIES)
REFUSAL = "strategy: there is no 'sum'; there are sum_scores, best_score"


def test_the_names_are_those_of_the_objects():
    assert NAMES == [each.name for each in STRATEGIES.values()] == list(typing.get_args(StrategyName))
    assert DEFAULT_STRATEGY in NAMES
    assert all(strategy_named(name) is STRATEGIES[name] for name in NAMES)


@pytest.mark.parametrize("request_", [RecommendRequest, RankRequest])
def test_the_schema_has_the_same_names(request_):
    said = request_.model_json_schema()["properties"]["strategy"]
    assert said["enum"] == NAMES
    assert said["default"] == DEFAULT_STRATEGY


@pytest.mark.parametrize("options", [RecommendArguments, RankArguments])
def test_the_client_has_the_same_names(options):
    assert list(typing.get_args(typing.get_type_hints(options)["strategy"])) == NAMES


def test_the_command_has_the_same_names():
    option = inspect.signature(recommend).parameters["strategy"]
    assert list(typing.get_args(typing.get_args(option.annotation)[0])) == NAMES
    assert option.default == DEFAULT_STRATEGY


def test_an_unknown_name_is_refused_and_the_known_ones_told():
    for ask in (lambda: strategy_named("sum"), lambda: query_of([oracle.Seed(0)], 1.0, limit=1, strategy="sum")):
        with pytest.raises(InvalidQuery) as caught:
            ask()
        assert str(caught.value) == REFUSAL


def test_the_name_alone_travels():
    for strategy in STRATEGIES.values():
        assert pickle.loads(pickle.dumps(strategy)) is strategy
        assert len(pickle.dumps(strategy)) < 100 and repr(strategy) == strategy.name


class LeastScore(Strategy):
    """The least of the contributions, those of negative seeds negated."""

    name = "least_score"
    columns = (Column(np.minimum, np.inf),)

    def accumulate(self, columns, scores, used, scratch, weight, negative, rounding):
        values = contribution(scores, weight, rounding)
        there = True if used is None else used
        np.minimum(columns[0], -values if negative else values, out=columns[0], where=there)

    def spread(self, parts, negative):
        return (np.concatenate([-part if against else part for part, against in zip(parts, negative, strict=True)]),)

    def finish(self, columns):
        return columns[0]

    def scale(self, weights):
        return float(weights.min())

    def shares(self, there, values, negative):
        values = np.where(negative[:, None], -values, values)
        least = np.where(there, values, np.inf).argmin(axis=0)
        return there & (np.arange(len(values))[:, None] == least), values


def least_of(parts, seeds, _strategy):
    return min(-value if seeds[i].negative else value for i, value in parts)


@pytest.fixture
def trial(monkeypatch):
    monkeypatch.setattr(strategies, "STRATEGIES", {**STRATEGIES, "least_score": LeastScore()})
    monkeypatch.setattr(oracle, "total_of", least_of)


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """Matrix, local table and actor table of each encoding and number of shards."""
    built = []
    for place, (encoding, shards) in enumerate([("dense", 1), ("dense", 3), ("sparse", 1), ("sparse", 4)]):
        matrix = random_matrix(place, 40, density=(0.3, 0.9)[place % 2], negative=place < 2)
        table = local_table(Snapshot(write_store(tmp_path_factory.mktemp("store"), matrix, encoding, shards)), POOL)
        built.append((matrix, table, actor_table(table)))
    return built


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_one_more_is_one_object_for_any_shards_encoding_and_transport(trial, worlds, data):
    matrix, local, actor = data.draw(st.sampled_from(worlds))
    rows = data.draw(st.lists(st.integers(0, 39), min_size=1, max_size=5, unique=True))
    seeds = [oracle.Seed(row, data.draw(st.sampled_from([1.0, 0.1, 1 / 3])), data.draw(st.booleans())) for row in rows]
    seeds[0] = seeds[0]._replace(negative=False)
    limit = data.draw(st.integers(1, 40))
    query = query_of(seeds, local.snapshot.manifest.score_abs_max, limit=limit, strategy="least_score")
    expected = oracle.hits(matrix, seeds, limit=limit)
    assert answers(local, query) == answers(actor, query) == expected


async def test_it_is_explained_and_diversified(trial, worlds):
    matrix, table, _ = worlds[1]
    seeds = [oracle.Seed(3, 0.5), oracle.Seed(20), oracle.Seed(31, 2.0, True)]
    query = query_of(seeds, table.snapshot.manifest.score_abs_max, limit=37, strategy="least_score")
    found = await search(table, query, POOL)
    scores = (await pair_scores(table, query.rows, found.hits.rows, POOL)).scores
    lines = json.loads(json.dumps(explain(table, query, found.hits, scores, None), default=float))
    assert [[line["contribution"] for line in each] for each in lines] == [
        [np.float32(score)] for score in found.hits.scores
    ]
    diverse = await search_diverse(table, query, found, 0.5, POOL)
    expected = oracle.diverse(oracle.scored(matrix, seeds), matrix, 0.5, 37, 0.5)
    assert diverse.hits.rows.tolist() == [row for row, _ in expected]
