"""What people would build instead of simshard: FastAPI over Redis sorted sets, over FAISS, over a matrix in HDF5.

Each is a factory for uvicorn, takes the requests that simshard takes and gives the same hits: id, score, payload. What
it needs to know stands as JSON in the environment, which every worker of uvicorn inherits.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Sequence
from uuid import uuid4

import numpy as np
import orjson
from fastapi import FastAPI, Response
from numpy.typing import NDArray
from pydantic import BaseModel

SETTINGS = "CONTEST_RIVAL"
LIMIT = 10
_TIMEOUT = 60.0


class Seeds(BaseModel):
    """The body of a request with many seeds."""

    positive: list[int]


def _settings() -> dict[str, str]:
    settings: dict[str, str] = json.loads(os.environ[SETTINGS])
    return settings


def _answer(ids: Iterable[int], scores: Iterable[float], payloads: Iterable[bytes]) -> Response:
    """The hits as JSON, encoded here: FastAPI's own way from dicts takes longer, and people in a hurry avoid it."""
    hits = [
        {"id": item, "score": score, "payload": orjson.Fragment(payload)}
        for item, score, payload in zip(ids, scores, payloads, strict=True)
    ]
    return Response(orjson.dumps({"hits": hits}), media_type="application/json")


def redis_app() -> FastAPI:
    """Top of a sorted set for one item; for many a weighted union of their full rows, in one transaction.

    Sets: `s:ID` the best 256 of each item, `f:ID` the full row of a seed in use; `p:ID` the payload.
    """
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    # Its own timeout of 5 s, and retries after it, would ask an overloaded server for everything again and again.
    client = redis.asyncio.Redis.from_url(_settings()["redis"], socket_timeout=_TIMEOUT, retry=Retry(NoBackoff(), 0))
    app = FastAPI()

    async def hits(found: Sequence[tuple[bytes, float]]) -> Response:
        payloads = await client.mget([b"p:" + item for item, _ in found]) if found else []
        return _answer([int(item) for item, _ in found], [score for _, score in found], payloads)

    @app.get("/v1/items/{item}/similar")
    async def similar(item: int) -> Response:
        return await hits(await client.zrevrange(f"s:{item}", 0, LIMIT - 1, withscores=True))

    @app.post("/v1/recommend")
    async def recommend(body: Seeds) -> Response:
        union = f"u:{uuid4().hex}"
        reach = LIMIT + len(body.positive)  # seeds stand in each other's rows, and are no hits
        async with client.pipeline(transaction=True) as pipe:
            pipe.zunionstore(union, {f"f:{seed}": 1.0 for seed in body.positive})
            pipe.zrevrange(union, 0, reach - 1, withscores=True)
            pipe.unlink(union)
            _, found, _ = await pipe.execute()
        seeds = set(body.positive)
        return await hits([(item, score) for item, score in found if int(item) not in seeds][:LIMIT])

    return app


def faiss_app() -> FastAPI:
    """Inner products of an item's vector, or of the sum of many, with all vectors, by FAISS."""
    import faiss

    settings = _settings()
    vectors = np.load(settings["vectors"])
    payloads = _payloads(settings)
    faiss.omp_set_num_threads(1)  # requests run beside each other already; more threads a search measured slower
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)

    def hits(seeds: list[int]) -> Response:
        query = vectors[seeds].sum(axis=0, keepdims=True)
        scores, rows = index.search(query, LIMIT + len(seeds))
        kept = np.flatnonzero(~np.isin(rows[0], seeds))[:LIMIT]
        ids = rows[0][kept].tolist()
        return _answer(ids, scores[0][kept].tolist(), [payloads[item] for item in ids])

    return _app_of(hits)


def h5py_app() -> FastAPI:
    """Rows of a dense matrix read from an HDF5 file (0 for a missing pair), added up, the best of them picked."""
    import h5py

    settings = _settings()
    matrix = h5py.File(settings["matrix"], "r")["scores"]
    payloads = _payloads(settings)

    def hits(seeds: list[int]) -> Response:
        total: NDArray[np.float64] = np.zeros(matrix.shape[1])
        for seed in seeds:
            total += matrix[seed]
        total[seeds] = -np.inf
        best = np.argpartition(total, -LIMIT)[-LIMIT:]
        best = best[np.argsort(-total[best], kind="stable")]
        ids = best.tolist()
        return _answer(ids, total[best].tolist(), [payloads[item] for item in ids])

    return _app_of(hits)


def _app_of(hits: Callable[[list[int]], Response]) -> FastAPI:
    """Both routes over what answers seeds."""
    app = FastAPI()

    @app.get("/v1/items/{item}/similar")
    def similar(item: int) -> Response:
        return hits([item])

    @app.post("/v1/recommend")
    def recommend(body: Seeds) -> Response:
        return hits(body.positive)

    return app


def _payloads(settings: dict[str, str]) -> list[bytes]:
    with open(settings["payloads"], "rb") as file:
        return file.read().splitlines()
