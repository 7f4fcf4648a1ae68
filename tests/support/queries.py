"""Queries of seeds, and a table's answers to them."""

import asyncio

import numpy as np

from simshard.serve.engine.router import SearchResult, search
from simshard.shards.query import Query, rounding_for
from simshard.shards.strategies import strategy_named
from simshard.shards.strategy_names import DEFAULT_STRATEGY
from tests.support.tables import POOL


def query_of(seeds, abs_max, exclude=(), strategy=DEFAULT_STRATEGY, **options):
    weights = np.array([seed.weight for seed in seeds])
    return Query(
        rows=np.array([seed.row for seed in seeds], dtype=np.uint32),
        weights=weights,
        negative=np.array([seed.negative for seed in seeds]),
        exclude=np.array(sorted({seed.row for seed in seeds} | set(exclude)), dtype=np.uint32),
        rounding=rounding_for(weights, abs_max),
        strategy=strategy_named(strategy),
        **options,
    )


def answers(table, query):
    found: SearchResult = asyncio.run(search(table, query, POOL))
    assert found.failed_shards == ()
    return list(zip(found.hits.rows.tolist(), found.hits.scores.astype(np.float32), strict=True))
