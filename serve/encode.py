"""Hits -> the bytes of an answer: ids, payloads, and what adds up to each score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from simshard.serve.router import Table
from simshard.serve.selections import Factors
from simshard.shards.query import Hits, Query, Rows

Line = dict[str, Any]
_NOTHING_ELSE = orjson.dumps({"missing_ids": [], "partial": False, "failed_shards": []})


@dataclass(frozen=True)
class Ranked:
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
    """For each hit the contribution of each seed that has a pair with it, then what each boost adds: they sum up.

    scores: float32 (S, H), of the seeds with the hits, NaN where there is no pair. A `best_score` is one seed's alone.
    """
    ids = [table.items.id(row) for row in query.rows.tolist()]
    there = ~np.isnan(scores)
    values = np.zeros(scores.shape)
    for seed in range(len(ids)):
        values[seed] = query.contribution(seed, np.nan_to_num(scores[seed]))
    if query.strategy == "best_score":
        there, values = _deciding(there, values, query.negative)
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


def _deciding(
    there: NDArray[np.bool_], values: NDArray[np.float64], negative: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Of each hit the one seed whose score it has, and the scores, those of negative seeds negated."""
    known = np.where(there, values, -np.inf)
    best_positive = np.where(negative[:, None], -np.inf, known).argmax(axis=0)
    best_negative = np.where(negative[:, None], known, -np.inf).argmax(axis=0)
    hits = np.arange(there.shape[1])
    against = known[best_negative, hits] > np.where(negative[best_positive], -np.inf, known[best_positive, hits])
    against &= negative[best_negative]
    only = np.zeros_like(there)
    only[np.where(against, best_negative, best_positive), hits] = True
    return only & there, np.where(negative[:, None], -values, values)


def encode(table: Table, ranked: Ranked, missing: Sequence[int | str], with_payload: bool) -> bytes:
    """The body of an answer of hits."""
    items = table.items
    rows = ranked.hits.rows.tolist()
    filling = ranked.filling.tolist()
    hits = _hits(table, rows, ranked.hits.scores.astype(np.float32), with_payload)
    if filling:
        more = [b'{"id":%b,"score":null,"source":"fallback"' % id_ for id_ in items.id_texts(filling)]
        hits += _with(more, b"payload", items.payload_texts(filling)) if with_payload else more
    if ranked.explained is not None:
        lines = [*ranked.explained, *([] for _ in filling)]
        hits = _with(hits, b"explain", [orjson.dumps(each, option=orjson.OPT_SERIALIZE_NUMPY) for each in lines])
    rest: dict[str, Any] = {
        "missing_ids": missing,
        "partial": bool(ranked.failed_shards),
        "failed_shards": ranked.failed_shards,
    }
    if ranked.unranked is not None:
        rest["unranked_ids"] = [items.id(row) for row in ranked.unranked]
    return _body(table, hits, orjson.dumps(rest))


def encode_plain(table: Table, rows: Sequence[int], scores: NDArray[np.float32]) -> bytes:
    """The same where there is nothing but hits with payload: rows and scores (K,)."""
    return _body(table, _hits(table, rows, scores, with_payload=True), _NOTHING_ELSE)


def _hits(table: Table, rows: Sequence[int], scores: NDArray[np.float32], with_payload: bool) -> list[bytes]:
    """Each hit as JSON, open at its end."""
    if not rows:
        return []
    numbers = orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    ids = table.items.id_texts(rows)
    if not with_payload:
        return [b'{"id":%b,"score":%b' % hit for hit in zip(ids, numbers, strict=True)]
    payloads = table.items.payload_texts(rows)
    return [b'{"id":%b,"score":%b,"payload":%b' % hit for hit in zip(ids, numbers, payloads, strict=True)]


def _with(hits: Sequence[bytes], name: bytes, values: Sequence[bytes]) -> list[bytes]:
    return [b'%b,"%b":%b' % (hit, name, value) for hit, value in zip(hits, values, strict=True)]


def _body(table: Table, hits: Sequence[bytes], rest: bytes) -> bytes:
    closed = b"},".join(hits) + b"}" if hits else b""
    return b'{"snapshot":%b,"hits":[%b],%b' % (orjson.dumps(table.name), closed, rest[1:])
