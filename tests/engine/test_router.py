"""Every answer equals the brute-force oracle: dense and sparse, 1 to 7 shards, both transports."""

import asyncio
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.serve.engine.router import pair_scores, search
from simshard.serve.engine.table import local_table
from simshard.shards.errors import ShardUnavailable
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.cases import AWKWARD, CASES
from tests.support.queries import answers, query_of
from tests.support.tables import POOL, actor_table


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """(encoding, shards) -> (matrix, local table, actor table); other matrices for other numbers of shards."""
    built = {}
    for i, (encoding, shards) in enumerate(CASES):
        matrix = random_matrix(i % 7, 23 + shards, density=(0.3, 0.9, 1.0)[i % 3], negative=i % 2 == 0)
        batch = (1, 4, 256)[i % 3]
        store = write_store(tmp_path_factory.mktemp("store"), matrix, encoding, shards, batch_rows=batch)
        table = local_table(Snapshot(store), POOL)
        built[encoding, shards] = (matrix, table, actor_table(table))
    return built


@settings(max_examples=400, deadline=None)
@given(data=st.data(), case=st.sampled_from(CASES), remote=st.booleans())
def test_answers_equal_the_oracle(tables, data, case, remote):
    matrix, local, actor = tables[case]
    rows = st.integers(0, len(matrix) - 1)
    chosen = data.draw(st.lists(rows, min_size=1, max_size=6, unique=True))
    weights = data.draw(st.lists(st.sampled_from(AWKWARD), min_size=len(chosen), max_size=len(chosen)))
    signs = data.draw(st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen)))
    signs[0] = False
    seeds = [oracle.Seed(*seed) for seed in zip(chosen, weights, signs, strict=True)]
    options = {
        "limit": data.draw(st.integers(1, 30)),
        "offset": data.draw(st.sampled_from([0, 0, 0, 1, 5, 20, 500])),
        "strategy": data.draw(st.sampled_from(["sum_scores", "best_score"])),
    }
    exclude = data.draw(st.lists(rows, max_size=8))
    threshold = data.draw(st.sampled_from([None, None, 0.0, 0.25, 0.5, 0.9, -1.0]) | st.floats(-2, 2))
    query = query_of(seeds, local.snapshot.manifest.score_abs_max, exclude, score_threshold=threshold, **options)
    found = answers(actor if remote else local, query)
    assert found == oracle.hits(matrix, seeds, exclude=exclude, threshold=threshold, **options)


@pytest.mark.parametrize(("items", "encoding"), [(600, "dense"), (600, "sparse")])
def test_rows_longer_than_the_stored_top(tmp_path, items, encoding):
    matrix = random_matrix(5, items, density=0.95, levels=3)
    table = local_table(Snapshot(write_store(tmp_path, matrix, encoding, 3)), POOL)
    rng = np.random.default_rng(0)
    for offset, limit, excluded in [(0, 10, 0), (0, 256, 0), (250, 10, 0), (0, 250, 30), (0, 10, 300), (300, 290, 5)]:
        seed = oracle.Seed(int(rng.integers(items)))
        exclude = rng.choice(items, excluded, replace=False).tolist()
        query = query_of([seed], 1.1, exclude, limit=limit, offset=offset)
        assert answers(table, query) == oracle.hits(matrix, [seed], exclude=exclude, limit=limit, offset=offset)
        at = float(oracle.hits(matrix, [seed], limit=1, offset=280)[0][1])
        query = replace(query, score_threshold=at)
        expected = oracle.hits(matrix, [seed], exclude=exclude, limit=limit, offset=offset, threshold=at)
        assert answers(table, query) == expected


@pytest.mark.parametrize("case", [("dense", 3), ("sparse", 4)])
def test_pair_scores(tables, case):
    matrix, local, actor = tables[case]
    rows = np.array([5, 0, 22], np.uint32)
    columns = np.array([3, 21, 0, 7], np.uint32)
    for table in (local, actor):
        found = asyncio.run(pair_scores(table, rows, columns, POOL))
        assert found.failed_shards == ()
        assert np.array_equal(found.scores, matrix[np.ix_(rows, columns)], equal_nan=True)


def test_a_shard_that_fails_once_is_asked_again_and_one_that_stays_away_is_named(tables):
    matrix, local, _ = tables["dense", 3]
    seeds = [oracle.Seed(0), oracle.Seed(len(matrix) - 1), oracle.Seed(len(matrix) // 2)]
    query = query_of(seeds, local.snapshot.manifest.score_abs_max, limit=5)
    assert answers(actor_table(local, {0: 1, 2: 1}), query) == oracle.hits(matrix, seeds, limit=5)

    found = asyncio.run(search(actor_table(local, {1: 9}), query, POOL))
    assert found.failed_shards == (1,)
    with pytest.raises(ShardUnavailable):
        asyncio.run(search(actor_table(local, {0: 9, 1: 9, 2: 9}), query, POOL))
    alone = query_of(seeds[:1], 1.1, limit=5)
    with pytest.raises(ShardUnavailable):
        asyncio.run(search(actor_table(local, {0: 9}), alone, POOL))


async def test_hits_beyond_the_stored_best_beside_rows_that_have_few(tmp_path):
    """A batch of a dense shard in which some rows have fewer than the 256 best, and some many more."""
    matrix = random_matrix(5, 420, density=1.0, levels=50)
    matrix[3] = matrix[:, 3] = np.nan
    matrix[4, 10:] = matrix[10:, 4] = np.nan
    table = local_table(Snapshot(write_store(tmp_path, matrix, shards=1)), POOL)
    for row, options in (
        (7, {"limit": 400}),
        (7, {"limit": 10, "offset": 300}),
        (4, {"limit": 300}),
        (3, {"limit": 9}),
    ):
        query = query_of([oracle.Seed(row)], 2.0, **options)
        found = await search(table, query, POOL)
        hits = list(zip(found.hits.rows.tolist(), found.hits.scores.astype(np.float32), strict=True))
        assert hits == oracle.hits(matrix, [oracle.Seed(row)], **options)
    exclude = oracle.hits(matrix, [oracle.Seed(7)], limit=260)
    query = query_of([oracle.Seed(7)], 2.0, exclude=[row for row, _ in exclude], limit=20)
    found = await search(table, query, POOL)
    assert found.hits.rows.tolist() == [row for row, _ in oracle.hits(matrix, [oracle.Seed(7)], limit=20, offset=260)]
