"""What an answer takes of our own code in a replica: the application called in process, without server or network."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from benchmarks import record, reference
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.api import build_api
from simshard.shards.hidden import hide_item, read_hidden
from simshard.shards.items import Items
from simshard.shards.store import Snapshot

Figures = dict[str, float]
Scope = dict[str, Any]
ROUNDS = 5
_HEADERS = [(b"host", b"127.0.0.1:8000"), (b"user-agent", b"layers")]


def layers(folder: Path) -> record.Result:
    """Microseconds a request, the best of some rounds, by what is asked."""
    store = reference.write_store(folder / "layers", 4_000)
    pool = ThreadPoolExecutor(2)
    figures: Figures = {"a bare handler of Starlette": asyncio.run(_timed(_bare(), _get("/v1/items/{}/similar"), 4000))}

    def measure(name: str, cache: int, requests: Callable[[], Iterator[tuple[Scope, bytes]]], count: int) -> None:
        service = Service(Cache(Lru(cache), None), pool)
        service.serve(local_table(Snapshot(store), pool))
        service.hide(read_hidden(store))
        app = build_api(service, store, None, dict)
        gc.collect()
        gc.freeze()  # as a replica does
        figures[name] = asyncio.run(_timed(app, requests, count))
        print(f"{name}: {figures[name]} us", flush=True)

    similar = _get("/v1/items/{}/similar")
    same = _get("/v1/items/7/similar")
    measure("similar", 0, similar, 4000)
    measure("similar, kept", 64 << 20, same, 4000)
    measure("similar, limit 50", 0, _get("/v1/items/{}/similar?limit=50"), 2000)
    measure("similar by query string", 0, _get("/v1/similar?id={}&limit=10"), 4000)
    measure("item", 0, _get("/v1/items/{}"), 4000)
    measure("score of a pair", 0, _get("/v1/score?a={}&b=17"), 2000)
    for seeds in (1, 2, 20):
        measure(f"recommend, {seeds} seeds", 0, _seeds(seeds), 1000)
    hide_item(store, Items(store.snapshots / store.resolve()), 11, True)
    measure("similar, an item is hidden", 0, similar, 4000)
    pool.shutdown()
    return record.Result({**record.size(store), "rounds": ROUNDS}, figures)


def _scope(method: str, target: str, headers: list[tuple[bytes, bytes]]) -> Scope:
    path, _, query = target.partition("?")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "headers": headers,
        "state": {},
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
    }


def _get(target: str) -> Callable[[], Iterator[tuple[Scope, bytes]]]:
    def requests() -> Iterator[tuple[Scope, bytes]]:
        rng = np.random.default_rng(3)
        while True:
            yield _scope("GET", target.format(rng.integers(4_000)), list(_HEADERS)), b""

    return requests


def _seeds(count: int) -> Callable[[], Iterator[tuple[Scope, bytes]]]:
    def requests() -> Iterator[tuple[Scope, bytes]]:
        rng = np.random.default_rng(3)
        while True:
            body = json.dumps({"positive": rng.choice(4_000, count, replace=False).tolist()}).encode()
            yield _scope("POST", "/v1/recommend", [*_HEADERS, (b"content-type", b"application/json")]), body

    return requests


def _bare() -> Starlette:
    async def answer(_: Request) -> Response:
        return Response(b"{}", media_type="application/json")

    return Starlette(routes=[Route("/v1/items/{id:path}/similar", answer)])


async def _timed(app: Any, requests: Callable[[], Iterator[tuple[Scope, bytes]]], count: int) -> float:
    """Microseconds a request, the best of some rounds of `count`."""
    given = requests()
    statuses = set()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.add(message["status"])

    best = float("inf")
    for _ in range(ROUNDS):
        prepared = [next(given) for _ in range(count)]
        begun = time.perf_counter()
        for scope, body in prepared:

            async def receive(body: bytes = body) -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            await app(scope, receive, send)
        best = min(best, time.perf_counter() - begun)
    assert statuses == {200}, statuses
    return round(best / count * 1e6, 1)
