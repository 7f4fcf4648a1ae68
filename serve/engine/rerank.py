"""What shapes a list of hits beyond their scores: grouping, diversity, and what fills it up."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from simshard.serve.engine.router import SearchResult, pair_scores, search, union
from simshard.serve.engine.table import Table
from simshard.shards.filters import Groups
from simshard.shards.query import Hits, Query, Rows

POOL = 10  # candidates of diversity for each hit asked for
LARGEST_POOL = 1000
_FIRST_DEPTH = 240  # what is stored beside a dense row holds so many, and a few excludes


def keep_groups(groups: Groups, rows: Rows, size: int) -> NDArray[np.intp]:
    """Places in `rows` (M,) of the first `size` of each group, ascending; those that are in none all."""
    mine = groups[rows]
    order = np.argsort(mine, kind="stable")
    ordered = mine[order]
    first = np.flatnonzero(np.diff(ordered, prepend=-2))
    rank = np.arange(len(ordered)) - np.repeat(first, np.diff(first, append=len(ordered)))
    return np.sort(order[(rank < size) | (ordered < 0)])


async def search_grouped(table: Table, query: Query, groups: Groups, size: int, pool: Executor) -> SearchResult:
    """The hits of a query, at most `size` of each group: the best ones, as many as asked for.

    Looks deeper, 16 times each, until there are enough, or no more hits.
    """
    depth = max(4 * query.limit, _FIRST_DEPTH)
    while True:
        result = await search(table, replace(query, limit=depth), pool)
        rows = result.hits.rows
        kept = await asyncio.get_running_loop().run_in_executor(pool, keep_groups, groups, rows, size)
        if len(kept) >= query.limit or len(rows) < depth:
            kept = kept[: query.limit]
            return result._replace(hits=Hits(rows[kept], result.hits.scores[kept]))
        depth *= 16


def diversify(
    scores: NDArray[np.float64], similarity: NDArray[np.float64], diversity: float, limit: int
) -> NDArray[np.intp]:
    """Places of `limit` candidates by maximal marginal relevance: intp (min(limit, C),).

    scores: (C,), best first; similarity: (C, C) of a chosen candidate (row) with another. Each step takes the candidate
    with the largest (1 - diversity) x score - diversity x its largest similarity with those chosen; of equal ones the
    better hit. Source: Carbonell and Goldstein, "The use of MMR, diversity-based reranking for reordering documents
    and producing summaries", SIGIR 1998, with lambda = 1 - diversity.
    """
    relevance = (1.0 - diversity) * scores
    nearest = np.zeros(len(scores))
    chosen: list[int] = []
    for _ in range(min(limit, len(scores))):
        gain = relevance - diversity * nearest
        gain[chosen] = -np.inf
        best = int(gain.argmax())
        nearest = np.maximum(nearest, similarity[best]) if chosen else similarity[best]
        chosen.append(best)
    return np.array(chosen, dtype=np.intp)


async def search_diverse(
    table: Table, query: Query, result: SearchResult, diversity: float, pool: Executor
) -> SearchResult:
    """The best hits of `result` in another order: as many as the query asks for, by maximal marginal relevance.

    A score counts relative to the weights of the positive seeds, so that it compares with a similarity; two candidates
    that are no pair have similarity 0.
    """
    rows, scores = result.hits.rows, result.hits.scores
    pairs = await pair_scores(table, rows, rows, pool)
    scale = query.strategy.scale(query.weights[~query.negative])

    def reorder() -> Hits:
        similarity = pairs.scores.astype(np.float64)
        if not table.snapshot.manifest.directed:  # a pair can be stored in one direction only
            similarity = np.where(np.isnan(similarity), similarity.T, similarity)
        chosen = diversify(scores / scale, np.nan_to_num(similarity), diversity, query.limit)
        return Hits(rows[chosen], scores[chosen])

    hits = await asyncio.get_running_loop().run_in_executor(pool, reorder)
    return SearchResult(hits, union(result.shards, pairs.shards), union(result.failed_shards, pairs.failed_shards))


def fill_up(hits: Rows, order: Rows, query: Query, groups: Groups | None, size: int, count: int) -> Rows:
    """The first `count` rows of `order` that can stand behind the hits; uint32.

    Those that the query admits and that are no hits already; with groups, at most `size` of each, the hits counted.
    """
    rows = order[query.admits(order) & ~np.isin(order, hits)]
    if groups is not None:
        kept = keep_groups(groups, np.concatenate((hits, rows)), size)
        rows = rows[kept[kept >= len(hits)] - len(hits)]
    return rows[:count]
