"""How a question for hits is computed: at once where that takes microseconds, else with waiting."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from simshard.serve.asked import AtOnce, Compute, Trace
from simshard.serve.cache import Computed
from simshard.serve.encode import Ranked, encode
from simshard.serve.questions import Question
from simshard.serve.ranking import FEW_HITS, rank_at_once, rank_hits
from simshard.serve.router import Table
from simshard.serve.selections import Selections
from simshard.shards.hidden import Hidden


def computing_hits(
    table: Table, question: Question, selections: Selections, pool: Executor
) -> tuple[Compute, AtOnce | None]:
    """What computes the answer, and what does so at once, for a plain question."""
    missing, payload = question.seeds.missing, question.with_payload

    def traced(trace: Trace, ranked: Ranked, body: bytes, begun: float, searched: float) -> Computed:
        trace.stages["search"] = (searched - begun) * 1e3
        trace.stages["encode"] = (time.perf_counter() - searched) * 1e3
        trace.shards = ranked.shards
        return Computed(body, keep=not ranked.failed_shards)

    async def compute(hidden: Hidden, trace: Trace) -> Computed:
        begun = time.perf_counter()
        ranked = await rank_hits(table, question, selections, hidden, pool)
        searched = time.perf_counter()
        if len(ranked.hits.rows) > FEW_HITS:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(pool, encode, table, ranked, missing, payload)
        else:
            body = encode(table, ranked, missing, payload)
        return traced(trace, ranked, body, begun, searched)

    def at_once(hidden: Hidden, trace: Trace) -> Computed | None:
        begun = time.perf_counter()
        ranked = rank_at_once(table, question, selections, hidden)
        if ranked is None:
            return None
        searched = time.perf_counter()
        return traced(trace, ranked, encode(table, ranked, missing, payload), begun, searched)

    return compute, at_once if question.plain else None
