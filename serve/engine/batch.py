"""Many requests of POST /v1/recommend at once, each with an answer or a problem of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from simshard.serve.engine.service import Service
from simshard.serve.engine.table import Table
from simshard.serve.schema.problems import problem_of
from simshard.serve.schema.requests import MAX_BATCH_HITS, RecommendRequest
from simshard.serve.schema.validation import parse
from simshard.shards.errors import InvalidQuery, SimshardError

Log = logging.getLogger("simshard.batch")

_LOCAL_GROUP = 32
_REMOTE_WORK = 10**8  # scores that a group of a batch reads from all shards: some tenths of a second
_ROW_WORK = 5_000  # scores that could be read in the time that a row takes beside its scores


async def answer_batch(service: Service, requests: Sequence[Any]) -> list[bytes]:
    """The body for each request, in order: an answer, or the problem in its place; all of one snapshot.

    Requests for remote shards go on together, so that each shard is called once for as many as it answers in good time;
    with local ones, small groups leave the event loop time for others. Raises InvalidQuery for a batch whose answers
    would be too large, and NotReady.
    """
    limits = sum(_number(values, "limit") for values in requests)
    if limits > MAX_BATCH_HITS:
        raise InvalidQuery("requests", f"their limits add up to {limits:,}, at most {MAX_BATCH_HITS:,}")
    table = service.opened()

    async def one(values: Any) -> bytes:
        try:
            request = parse(RecommendRequest, values)
            await service.adopted(request.snapshot)
            return (await service.answer(service.recommend(request, table))).body
        except SimshardError as error:
            return orjson.dumps(problem_of(service.explained(error)))
        except Exception:
            Log.exception("a request of a batch")
            return orjson.dumps(problem_of(SimshardError()))

    bodies: list[bytes] = []
    try:
        for group in _groups(requests, table):
            bodies += await asyncio.gather(*map(one, group))
    finally:
        service.releasing.soon()
    return bodies


def _number(values: Any, name: str) -> int:
    """An integer of a request that is not checked yet, or the 10 that stands for none."""
    number = values.get(name, 10) if isinstance(values, dict) else 10
    return number if isinstance(number, int) else 10


def _groups(requests: Sequence[Any], table: Table) -> Iterator[list[Any]]:
    """The requests of a batch in runs that are answered together."""
    if not table.remote:
        yield from (list(requests[start : start + _LOCAL_GROUP]) for start in range(0, len(requests), _LOCAL_GROUP))
        return
    group: list[Any] = []
    work = 0
    for values in requests:
        lists = [values.get(name) for name in ("positive", "negative")] if isinstance(values, dict) else []
        seeds = sum(len(each) for each in lists if isinstance(each, list))
        of_one = seeds * (len(table.items) + _ROW_WORK)
        if group and work + of_one > _REMOTE_WORK:
            yield group
            group, work = [], 0
        group.append(values)
        work += of_one
    yield group
