"""From a question to ranked hits, readable top to bottom: select, search, group, diversify, fill up, explain."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from dataclasses import replace

import numpy as np

from simshard.serve.engine.compiled_filters import CompiledFilters
from simshard.serve.engine.encode import Line, PipelineResult, explain
from simshard.serve.engine.question import Question
from simshard.serve.engine.rerank import LARGEST_POOL, POOL, fill_up, search_diverse, search_grouped
from simshard.serve.engine.router import SearchResult, pair_scores, search, union
from simshard.serve.engine.table import Table
from simshard.shards.errors import InvalidQuery
from simshard.shards.filters import Groups
from simshard.shards.hidden import Hidden
from simshard.shards.query import Hits, Query, Rows

MAX_LINES = 100_000  # of explanations in one answer
_NONE: Rows = np.empty(0, dtype=np.uint32)


async def find_hits(
    table: Table, question: Question, filters: CompiledFilters, hidden: Hidden, pool: Executor
) -> PipelineResult:
    """The hits that a question asks for, and what fills up behind them. Raises InvalidQuery and ShardUnavailable."""
    selection, factors, groups, order = await filters.compile(table, question, hidden)
    query = question.query(table, selection, factors.product if factors else None)
    if all(question.seeds.negative):  # no positive seed is known: the fallback answers alone
        hits, asked, failed = SearchResult(Hits(_NONE, np.empty(0)), (), ())
    else:
        hits, asked, failed = await _search(table, question, query, groups, pool)
    filling = _NONE
    if order is not None:
        filling = await _fill(question, query, hits, order, groups, pool)
    if groups is not None or order is not None:  # these were found from the first hit on
        page = slice(question.offset, question.offset + question.limit)
        hits = Hits(hits.rows[page], hits.scores[page])
    explained: list[list[Line]] | None = [] if question.explain else None
    if len(query.rows) * len(hits.rows) > MAX_LINES and question.explain:
        size = f"{len(query.rows)} seeds for each of {len(hits.rows)} hits"
        raise InvalidQuery("explain", f"{size} are more than {MAX_LINES:,} lines; ask for fewer")
    if question.explain and len(hits.rows):
        pairs = await pair_scores(table, query.rows, hits.rows, pool)
        work = (table, query, hits, pairs.scores, factors)
        explained = await asyncio.get_running_loop().run_in_executor(pool, explain, *work)
        asked, failed = union(asked, pairs.shards), union(failed, pairs.failed_shards)
    unranked = None
    if question.candidates is not None:
        ranked = set(hits.rows.tolist())
        unranked = [row for row in question.candidates if row not in ranked]
    return PipelineResult(hits, filling, asked, failed, explained, unranked)


async def _search(
    table: Table, question: Question, query: Query, groups: Groups | None, pool: Executor
) -> SearchResult:
    """The hits: a page of them, or all from the first on where more than a page has to be known."""
    if question.diversity:
        wanted = replace(query, limit=min(POOL * question.limit, LARGEST_POOL))
    elif groups is not None or question.fallback is not None:
        wanted = replace(query, limit=question.offset + question.limit, offset=0)
    else:
        wanted = query
    if groups is None:
        result = await search(table, wanted, pool)
    else:
        result = await search_grouped(table, wanted, groups, question.group_size, pool)
    if question.diversity:
        result = await search_diverse(table, query, result, question.diversity, pool)
    return result


async def _fill(
    question: Question, query: Query, hits: Hits, order: Rows, groups: Groups | None, pool: Executor
) -> Rows:
    """What fills the page up behind the hits, all of which are known from the first on."""
    known = len(hits.rows)
    short = max(question.offset + question.limit - known, 0)

    def fill() -> Rows:
        return fill_up(hits.rows, order, query, groups, question.group_size, short)

    filling = await asyncio.get_running_loop().run_in_executor(pool, fill) if short else _NONE
    return filling[max(question.offset - known, 0) :]
