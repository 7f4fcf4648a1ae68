"""How a question for hits is computed: hits first, then their bytes, where many in a thread."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import Executor

from simshard.serve.engine.answer_job import Compute, Trace
from simshard.serve.engine.cache import Computed
from simshard.serve.engine.compiled_filters import Selections
from simshard.serve.engine.encode import encode
from simshard.serve.engine.pipeline import rank_hits
from simshard.serve.engine.question import Question
from simshard.serve.engine.router import Table
from simshard.shards.hidden import Hidden

FEW_HITS = 50  # are encoded where they stand, more in a thread


def computing_hits(table: Table, question: Question, selections: Selections, pool: Executor) -> Compute:
    """What computes the answer."""
    missing, payload = question.seeds.missing, question.with_payload

    async def compute(hidden: Hidden, trace: Trace) -> Computed:
        begun = time.perf_counter()
        ranked = await rank_hits(table, question, selections, hidden, pool)
        searched = time.perf_counter()
        if len(ranked.hits.rows) > FEW_HITS:
            loop = asyncio.get_running_loop()
            body = await loop.run_in_executor(pool, encode, table, ranked, missing, payload)
        else:
            body = encode(table, ranked, missing, payload)
        trace.stages["search"] = (searched - begun) * 1e3
        trace.stages["encode"] = (time.perf_counter() - searched) * 1e3
        trace.shards = ranked.shards
        return Computed(body, keep=not ranked.failed_shards)

    return compute
