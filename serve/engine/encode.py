"""Hits -> the bytes of an answer: ids, payloads, and what adds up to each score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from simshard.serve.engine.compiled_filters import Factors
from simshard.serve.engine.table import Table
from simshard.shards.payloads import Text
from simshard.shards.query import Hits, Query, Rows
from simshard.shards.strategies import contribution

Line = dict[str, Any]
Columns = dict[bytes, Sequence[Text]]
_ID, _SCORE, _PAYLOAD, _EXPLAIN = b'},{"id":', b',"score":', b',"payload":', b',"explain":'
_FILLS_UP = b'null,"source":"fallback"'
_NOTHING_ELSE = orjson.dumps({"missing_ids": [], "partial": False, "failed_shards": []})


@dataclass(frozen=True)
class PipelineResult:
    """What is answered, rows yet: hits, the rows that only fill up behind them, and lines for each hit if explained.

    shards: those that were asked; failed_shards: those of them that did not answer. unranked: rows of candidates that
    are no hits; None where there were no candidates.
    """

    hits: Hits
    filling: Rows
    shards: tuple[int, ...]
    failed_shards: tuple[int, ...]
    explained: list[list[Line]] | None = None
    unranked: Sequence[int] | None = None


def explain(
    table: Table, query: Query, hits: Hits, scores: NDArray[np.float32], factors: Factors | None
) -> list[list[Line]]:
    """For each hit what each seed gives to its score, then what each boost adds: they sum up.

    scores: float32 (S, H), of the seeds with the hits, NaN where there is no pair.
    """
    ids = [table.items.id(row) for row in query.rows.tolist()]
    there = ~np.isnan(scores)
    values = np.zeros(scores.shape)
    for seed in range(len(ids)):
        values[seed] = contribution(np.nan_to_num(scores[seed]), query.weights[seed], query.rounding)
    there, values = query.strategy.shares(there, values, query.negative)
    sums = values.sum(axis=0, where=there)
    lines: list[list[Line]] = []
    for hit in range(len(hits.rows)):
        seeds = np.flatnonzero(there[:, hit]).tolist()
        lines.append([{"id": ids[seed], "contribution": np.float32(values[seed, hit])} for seed in seeds])
    for place, (factor, mask) in enumerate(factors.each if factors else ()):
        boosted = mask[hits.rows]
        for hit in np.flatnonzero(boosted).tolist():
            added = np.float32(sums[hit] * factor - sums[hit])
            lines[hit].append({"boost": place, "factor": factor, "contribution": added})
        sums[boosted] *= factor
    return lines


def encode(table: Table, result: PipelineResult, missing: Sequence[int | str], with_payload: bool) -> bytes:
    """The body of an answer of hits."""
    items = table.items
    filling = result.filling.tolist()
    rows = result.hits.rows.tolist() + filling
    scores = _numbers(result.hits.scores.astype(np.float32)) + [_FILLS_UP] * len(filling)
    columns: Columns = {_ID: items.id_texts(rows), _SCORE: scores}
    if with_payload:
        columns[_PAYLOAD] = items.payload_texts(rows)
    if result.explained is not None:
        lines = [*result.explained, *([] for _ in filling)]
        columns[_EXPLAIN] = [orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) for each in lines]
    rest: dict[str, Any] = {
        "missing_ids": missing,
        "partial": bool(result.failed_shards),
        "failed_shards": result.failed_shards,
    }
    if result.unranked is not None:
        rest["unranked_ids"] = [items.id(row) for row in result.unranked]
    return _body(table, columns, orjson.dumps(rest))


def encode_plain(table: Table, rows: Sequence[int], scores: NDArray[np.float32]) -> bytes:
    """The same where there is nothing but hits with payload: rows and scores (K,)."""
    items = table.items
    columns: Columns = {_ID: items.id_texts(rows), _SCORE: _numbers(scores), _PAYLOAD: items.payload_texts(rows)}
    return _body(table, columns, _NOTHING_ELSE)


def _numbers(scores: NDArray[np.float32]) -> list[bytes]:
    """Each score as JSON."""
    return orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",") if len(scores) else []


def _body(table: Table, columns: Columns, rest: bytes) -> bytes:
    """All as one: `columns` has what each hit says of itself, behind what stands before that."""
    pieces: list[Text] = []
    for before in columns:
        pieces += before, b""
    pieces *= len(columns[_ID])
    for place, values in enumerate(columns.values()):
        pieces[2 * place + 1 :: 2 * len(columns)] = values
    start = b'{"snapshot":%b,"hits":[' % orjson.dumps(table.name)
    if not pieces:
        return start + b"]," + rest[1:]
    pieces[0] = start + _ID.removeprefix(b"},")
    pieces += b"}],", rest[1:]
    return b"".join(pieces)
