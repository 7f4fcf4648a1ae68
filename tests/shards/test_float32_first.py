"""Sums found with float32: the same bits as all exact sums in order, or None."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.shards import float32_first
from simshard.shards.errors import InvalidQuery
from simshard.shards.float32_first import best_sums
from simshard.shards.format import ShardReader
from simshard.shards.query import Query, Selection, merge, rounding_for, truncate
from simshard.shards.search import partial, search_whole
from simshard.shards.store import Snapshot
from simshard.shards.strategies import strategy_named
from tests.support.builder import random_matrix, write_store

ITEMS = 300


def close_matrix():
    """Scores that differ in their last bits, so that float32 puts sums in another order."""
    matrix = random_matrix(5, ITEMS, density=0.95)
    there = ~np.isnan(matrix)
    steps = np.random.default_rng(6).integers(0, 4, matrix.shape)
    steps = np.triu(steps, 1) + np.triu(steps, 1).T
    matrix[there] = (np.float32(0.7).view(np.int32) + steps[there]).astype(np.int32).view(np.float32)
    return matrix


MATRICES = {
    "scores": random_matrix(1, ITEMS, density=0.97, levels=900),
    "ties and negative scores": random_matrix(2, ITEMS, density=0.6, levels=4, negative=True),
    "few pairs": random_matrix(3, ITEMS, density=0.1, levels=50),
    "close": close_matrix(),
    "tiny": random_matrix(4, ITEMS, density=0.9, levels=50) * np.float32(1e-43),
    "huge": random_matrix(4, ITEMS, density=0.9, levels=50, negative=True) * np.float32(1e36),
}


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    made = {}
    for name, matrix in MATRICES.items():
        store = write_store(tmp_path_factory.mktemp("float32_first"), matrix, shards=3, batch_rows=64)
        snapshot = Snapshot(store)
        readers = [ShardReader(snapshot.folder, snapshot.manifest, shard) for shard in range(3)]
        made[name] = (snapshot.manifest, readers)
    return made


def parts_of(manifest, readers, query):
    owners = manifest.shard_of(query.rows)
    return [(readers[shard], query.of_seeds(owners == shard)) for shard in np.unique(owners).tolist()]


def all_sums(parts, query):
    return truncate(merge([partial(reader, part) for reader, part in parts]), query)


def same(one, other):
    assert one.rows.tolist() == other.rows.tolist()
    assert one.scores.tobytes() == other.scores.tobytes()
    assert (one.rows.dtype, one.scores.dtype) == (other.rows.dtype, other.scores.dtype)


@st.composite
def queries(draw, manifest):
    count = draw(st.integers(2, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.choice(ITEMS, count, replace=False).astype(np.uint32)  # in any order, as for an explanation
    choices = draw(st.sampled_from([[1.0], [1.0, 2.0, 0.5], [0.1, 0.3, 1.7], [2.0**-50, 1.0, 2.0**50], [1e-200, 1.0]]))
    weights = rng.choice(choices, count)
    negative = rng.random(count) < draw(st.sampled_from([0.0, 0.3, 0.9]))
    others = rng.choice(ITEMS, draw(st.integers(0, 5)))
    selection = None
    if draw(st.booleans()):
        selection = Selection(rng.random(ITEMS) < draw(st.sampled_from([0.1, 0.5, 0.99])))
    return Query(
        rows=rows,
        weights=weights,
        negative=negative,
        exclude=np.unique(np.concatenate((rows, others))).astype(np.uint32),
        limit=draw(st.sampled_from([1, 5, 10, 60])),
        offset=draw(st.sampled_from([0, 0, 3, 20])),
        score_threshold=draw(st.none() | st.sampled_from([0.0, 1.5, 20.0])),
        rounding=rounding_for(weights, manifest.score_abs_max, 1.0, manifest.score_abs_min),
        selection=selection,
    )


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_they_are_the_exact_sums_in_order(worlds, data):
    manifest, readers = worlds[data.draw(st.sampled_from(sorted(worlds)))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(float32_first, "_FEWEST", 0)
        try:
            query = data.draw(queries(manifest))
        except InvalidQuery:  # no sum of these weights is a float32
            return
        parts = parts_of(manifest, readers, query)
        found = best_sums(parts, query)
        if found is not None:
            same(found, all_sums(parts, query))
        same(search_whole(parts, query), all_sums(parts, query))


@pytest.mark.parametrize("name", ["scores", "close", "tiny", "huge"])
def test_ordinary_questions_are_answered_so_and_others_are_not(worlds, monkeypatch, name):
    monkeypatch.setattr(float32_first, "_FEWEST", 0)
    manifest, readers = worlds[name]
    rows = np.array([250, 3, 120, 7, 44], np.uint32)
    plain = dict(weights=np.full(5, 1.5), negative=np.array([False] * 4 + [True]), exclude=np.sort(rows), limit=10)
    plain["rounding"] = rounding_for(plain["weights"], manifest.score_abs_max)

    def ask(**more):
        query = Query(rows, **{**plain, **more})
        return best_sums(parts_of(manifest, readers, query), query)

    usual = ask()
    assert usual is None if name == "tiny" else len(usual.rows) == 10
    assert ask(strategy=strategy_named("best_score")) is None
    assert ask(factors=np.ones(ITEMS)) is None
    assert ask(limit=ITEMS) is None
    assert ask(selection=Selection(np.arange(ITEMS) < 20)) is None
    if name != "huge":  # where scores are below 0
        assert ask(negative=np.ones(5, bool)) is None  # no sum is above 0, so any row may have no pair
    monkeypatch.undo()
    assert ask() is None  # so few items
