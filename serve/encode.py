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
    scores = ranked.hits.scores.astype(np.float32)
    rows = np.concatenate((ranked.hits.rows, ranked.filling))
    payloads = items.payloads(rows) if with_payload else []
    count = len(scores)
    hits = []
    for i, row in enumerate(rows.tolist()):
        hit: dict[str, Any] = {"id": items.id(row), "score": scores[i] if i < count else None}
        if i >= count:
            hit["source"] = "fallback"
        if with_payload:
            hit["payload"] = payloads[i]
        if ranked.explained is not None:
            hit["explain"] = ranked.explained[i] if i < count else []
        hits.append(hit)
    body = {
        "snapshot": table.name,
        "hits": hits,
        "missing_ids": list(missing),
        "partial": bool(ranked.failed_shards),
        "failed_shards": list(ranked.failed_shards),
    }
    if ranked.unranked is not None:
        body["unranked_ids"] = [items.id(row) for row in ranked.unranked]
    return orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
