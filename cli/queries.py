"""`simshard similar` and `simshard recommend`: ask a store directly, or a server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, Literal

import orjson
import typer

from simshard.cli.output import fail, print_json, print_table, reported_errors

StoreOrNone = Annotated[
    str | None, typer.Option("--store", envvar="SIMSHARD_STORE", help="Folder of the store to read directly.")
]
UrlOption = Annotated[str | None, typer.Option("--url", envvar="SIMSHARD_URL", help="A running server instead.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="Most hits.")]
OffsetOption = Annotated[int, typer.Option(min=0, help="Hits to skip.")]
ThresholdOption = Annotated[float | None, typer.Option("--score-threshold", help="Least score of a hit.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the body that the HTTP call answers.")]


def similar(
    id: Annotated[str, typer.Argument(help="Id of the item.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    limit: LimitOption = 10,
    offset: OffsetOption = 0,
    score_threshold: ThresholdOption = None,
    json: JsonOption = False,
) -> None:
    """What is similar to an item."""
    parameters: dict[str, Any] = {"id": id, "limit": limit, "offset": offset}
    if score_threshold is not None:
        parameters["score_threshold"] = score_threshold

    async def ask(service: Any) -> bytes:
        from simshard.serve.service import Options

        return bytes((await service.similar(id, Options(limit, offset, score_threshold), 60_000)).body)

    _show(answer(store, url, ask, "GET", "/v1/similar", {"params": parameters}), json)


def recommend(
    positive: Annotated[list[str], typer.Option(help="Liked item, with a weight after = (repeatable).")],
    negative: Annotated[list[str] | None, typer.Option(help="Disliked item (repeatable).")] = None,
    store: StoreOrNone = None,
    url: UrlOption = None,
    strategy: Annotated[Literal["sum_scores", "best_score"], typer.Option(help="How seeds add up.")] = "sum_scores",
    limit: LimitOption = 10,
    offset: OffsetOption = 0,
    score_threshold: ThresholdOption = None,
    exclude: Annotated[list[str] | None, typer.Option(help="Item never to answer (repeatable).")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Name each seed's contribution.")] = False,
    json: JsonOption = False,
) -> None:
    """What goes with these items."""
    body = {
        "positive": [_seed(text) for text in positive],
        "negative": [_seed(text) for text in negative or []],
        "strategy": strategy,
        "limit": limit,
        "offset": offset,
        "score_threshold": score_threshold,
        "exclude_ids": exclude or [],
        "explain": explain,
        "timeout_ms": 60_000,
    }

    async def ask(service: Any) -> bytes:
        from pydantic import ValidationError

        from simshard.serve.schemas import RecommendRequest
        from simshard.shards.errors import InvalidQuery

        try:
            request = RecommendRequest.model_validate(body)
        except ValidationError as error:
            first = error.errors()[0]
            raise InvalidQuery(".".join(map(str, first["loc"])), first["msg"]) from error
        return bytes((await service.recommend(request)).body)

    _show(answer(store, url, ask, "POST", "/v1/recommend", {"json": body}), json)


def _seed(text: str) -> dict[str, Any]:
    id_, separator, weight = text.rpartition("=")
    if not separator:
        return {"id": text, "weight": 1.0}
    try:
        return {"id": id_, "weight": float(weight)}
    except ValueError:
        return {"id": text, "weight": 1.0}  # an id that has = in it


def answer(
    store: str | None,
    url: str | None,
    ask: Callable[[Any], Awaitable[bytes]],
    method: str,
    path: str,
    request: dict[str, Any],
) -> bytes:
    """The body that a store, asked by `ask`, or a server answers; ends the command with one sentence for an error."""
    if (store is None) == (url is None):
        raise typer.BadParameter("name either a store (--store) or a server (--url)")
    with reported_errors():
        return (
            asyncio.run(_ask_store(store, ask)) if store is not None else _ask_server(f"{url}{path}", method, request)
        )
    raise AssertionError


async def _ask_store(path: str, ask: Callable[[Any], Awaitable[bytes]]) -> bytes:
    from simshard.serve.cache import Cache, MemoryCache
    from simshard.serve.router import local_table
    from simshard.serve.service import Service
    from simshard.shards.store import Snapshot, Store

    with ThreadPoolExecutor(2) as pool:
        service = Service(Cache(MemoryCache(0), None), pool)
        service.table = local_table(Snapshot(Store(path)), pool)
        return await ask(service)


def _ask_server(url: str, method: str, request: dict[str, Any]) -> bytes:
    import httpx

    from simshard.serve.settings import API_KEY_VARIABLE, bearer

    headers = bearer(os.environ.get(API_KEY_VARIABLE))
    try:
        answer = httpx.request(method, url, headers=headers, timeout=60, **request)
    except httpx.HTTPError as error:
        fail(f"{url}: no answer ({error})")
    if answer.status_code != 200:
        try:
            detail = answer.json()["detail"]
        except (ValueError, KeyError):
            detail = answer.text[:200]
        fail(f"{url}: {answer.status_code}: {detail}")
    return answer.content


def _show(body: bytes, json: bool) -> None:
    if json:
        print_json(body)
        return
    answer = orjson.loads(body)
    titled = any("title" in hit.get("payload", {}) for hit in answer["hits"])
    explained = any("explain" in hit for hit in answer["hits"])
    rows = []
    for rank, hit in enumerate(answer["hits"], 1):
        row = [str(rank), str(hit["id"]), f"{hit['score']:.6g}"]
        if titled:
            row.append(hit["payload"].get("title", ""))
        if explained:
            row.append("  ".join(f"{line['id']}: {line['contribution']:+.4g}" for line in hit["explain"]))
        rows.append(row)
    columns = ["", "id", "score"] + ["title"] * titled + ["because of"] * explained
    print_table(columns, rows)
    if answer["missing_ids"]:
        typer.echo(f"unknown ids: {', '.join(map(str, answer['missing_ids']))}", err=True)
    if answer["partial"]:
        typer.echo(f"shards without answer: {', '.join(map(str, answer['failed_shards']))}", err=True)
