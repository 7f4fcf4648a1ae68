"""Whether contenders that answer from the same scores give the same hits, checked before anything is measured."""

from __future__ import annotations

from typing import Any, NamedTuple

import httpx
import numpy as np

from benchmarks import load, reference
from benchmarks.contenders import Contender, Site

ITEMS = 24
QUESTIONS = 8
LIMIT = 10
# Scores have four decimals; sums of twenty are printed as float32 by the one and as float64 by the other.
_NEAR = 2e-5


class Hits(NamedTuple):
    """Ids, best first, and their scores."""

    ids: list[int]
    scores: list[float]


def expected(site: Site, seeds: list[int]) -> tuple[Hits, set[int]]:
    """The best of the sums of these items' rows, plainly; and all items that share the last one's score."""
    total = np.zeros(site.items)
    there = np.zeros(site.items, dtype=np.bool_)
    for seed in seeds:
        scores = reference.block(seed, seed + 1, site.items)[0].astype(np.float64).round(4)
        there |= ~np.isnan(scores)
        total += np.nan_to_num(scores)
    there[seeds] = False
    total[~there] = -np.inf
    order = np.argsort(-total, kind="stable")[:LIMIT]
    tied = set(np.flatnonzero(np.abs(total - total[order[-1]]) < _NEAR).tolist())
    return Hits(order.tolist(), total[order].tolist()), tied


def differs(given: Hits, wanted: Hits, tied: set[int]) -> bool:
    """Whether hits differ other than in the order, or at the end the choice, of equal scores."""
    if len(given.ids) != len(wanted.ids) or len(set(given.ids)) != len(given.ids):
        return True
    if not np.allclose(given.scores, wanted.scores, rtol=0, atol=_NEAR):
        return True
    scores = dict(zip(wanted.ids, wanted.scores, strict=True))
    inner = set(wanted.ids) - tied
    if not inner <= set(given.ids) or not set(given.ids) <= set(wanted.ids) | tied:
        return True
    known = [(score, scores[item]) for item, score in zip(given.ids, given.scores, strict=True) if item in scores]
    return any(abs(score - want) > _NEAR for score, want in known)


def check(contender: Contender, site: Site) -> dict[str, int]:
    """How many answers were compared with the plain sums. Raises SystemExit, with the ids, where one differs.

    A contender that answers from other scores is only asked whether it gives ten hits with payload.
    """
    rng = np.random.default_rng(3)
    questions = [[item] for item in rng.choice(site.items, ITEMS, replace=False).tolist()]
    questions += [rng.choice(site.pool, load.SEEDS, replace=False).tolist() for _ in range(QUESTIONS)]
    with httpx.Client(base_url=contender.url, timeout=60) as client:
        for seeds in questions:
            body = _ask(client, seeds)
            given = Hits([hit["id"] for hit in body["hits"]], [hit["score"] for hit in body["hits"]])
            titles = [hit["payload"]["title"] for hit in body["hits"]]
            if len(given.ids) != LIMIT or (contender.exact and titles != [reference.title(i) for i in given.ids]):
                raise SystemExit(f"{contender.name}: not ten hits with their titles for {seeds}: {body}")
            if contender.exact:
                wanted, tied = expected(site, seeds)
                if differs(given, wanted, tied):
                    raise SystemExit(f"{contender.name}: other hits for {seeds}: {given}, not {wanted}")
    return {"compared": len(questions) if contender.exact else 0}


def _ask(client: httpx.Client, seeds: list[int]) -> dict[str, Any]:
    if len(seeds) == 1:
        answer = client.get(f"/v1/items/{seeds[0]}/similar")
    else:
        answer = client.post("/v1/recommend", json={"positive": seeds})
    body: dict[str, Any] = answer.raise_for_status().json()
    return body
