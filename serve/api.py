"""FastAPI over the service; the table from errors to statuses."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, MutableMapping
from importlib import resources
from importlib.metadata import version
from typing import Annotated, Any

import orjson
from fastapi import Depends, FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException

from simshard.serve.schemas import (
    Answer,
    FoundItems,
    Health,
    Item,
    Limit,
    Offset,
    Problem,
    RecommendRequest,
    Score,
    Snapshots,
    Threshold,
)
from simshard.serve.service import Options, Reply, Service, snapshots
from simshard.shards.errors import (
    DeadlineExceeded,
    InvalidQuery,
    NotReady,
    ShardUnavailable,
    SimshardError,
    StoreError,
    UnknownItem,
)
from simshard.shards.store import Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY = 1 << 20
STATUS: tuple[tuple[type[SimshardError], int, str], ...] = (
    (InvalidQuery, 422, "Invalid request"),
    (UnknownItem, 404, "Unknown item"),
    (NotReady, 503, "Not ready"),
    (ShardUnavailable, 503, "Shard unavailable"),
    (DeadlineExceeded, 504, "Deadline exceeded"),
    (StoreError, 500, "Store at fault"),
)
_TAGS = ("seed", "plain")  # pydantic's names for the kinds of a seed, which stand in no request
_OPEN_PATHS = ("/livez", "/readyz")
_ASSETS = {"swagger-ui-bundle.js": "application/javascript", "swagger-ui.css": "text/css"}

ItemId = Annotated[str, Path(description="The item's id as text.")]


def _hit_options(
    limit: Limit = 10, offset: Offset = 0, score_threshold: Threshold = None, with_payload: bool = True
) -> Options:
    return Options(limit, offset, score_threshold, with_payload=with_payload)


HitOptions = Annotated[Options, Depends(_hit_options)]
SearchText = Annotated[
    str,
    Query(
        max_length=200,
        description="Beginnings of words of the title, in any case, without accents; or an id. None: all.",
    ),
]
QueryId = Annotated[str, Query(min_length=1, description="The item's id as text.")]


def problem(status: int, title: str, detail: str, field: str | None = None) -> Response:
    """An RFC 9457 answer."""
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
    if field is not None:
        body["field"] = field
    headers = {"Retry-After": "1"} if status == 503 else None
    return Response(orjson.dumps(body), status, headers, "application/problem+json")


def _reply(reply: Reply) -> Response:
    headers = {"X-Cache": reply.outcome, "X-Snapshot": reply.snapshot}
    if reply.stages:
        headers["Server-Timing"] = ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in reply.stages.items())
    return Response(reply.body, 200, headers, "application/json")


def build_api(service: Service, store: Store, api_key: str | None, health: Callable[[], dict[str, Any]]) -> Any:
    """The ASGI application; `health` gives the body of /healthz."""
    app = FastAPI(
        title="simshard",
        version=version("simshard"),
        description="What is similar to this item, and what goes with these: exact answers from precomputed scores.",
        docs_url=None,
        redoc_url=None,
        responses={
            code: {"model": Problem, "content": {"application/problem+json": {}}} for code in (404, 422, 503, 504)
        },
    )
    _add_errors(app)
    _add_queries(app, service, store)
    _add_operations(app, health)
    _add_docs(app)
    return Gate(app, api_key)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(SimshardError)
    async def on_known(_: Request, error: SimshardError) -> Response:
        for kind, status, title in STATUS:
            if isinstance(error, kind):
                return problem(status, title, str(error), getattr(error, "field", None))
        return problem(500, "Internal error", "the service could not answer; its log says why")

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        place = [part for part in first["loc"][1:] if part not in _TAGS]
        if first["type"] == "json_invalid":
            return problem(400, "Invalid JSON", f"the body is not JSON: {first['ctx']['error']} at byte {place[0]}")
        if not place and "json" not in request.headers.get("content-type", ""):
            return problem(422, "Invalid request", "body: send it with content-type: application/json", "body")
        field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
        message = "no such field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        return problem(422, "Invalid request", f"{field or 'body'}: {message}", field or "body")

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        detail = f"{request.method} {request.url.path}: {error.detail}"
        return problem(error.status_code, str(error.detail), detail)

    @app.exception_handler(Exception)
    async def on_unknown(_: Request, __: Exception) -> Response:
        return problem(500, "Internal error", "the service could not answer; its log says why")


def _add_queries(app: FastAPI, service: Service, store: Store) -> None:
    @app.get("/v1/items", response_model=FoundItems, tags=["items"], summary="Items by title")
    async def find(q: SearchText = "", limit: Limit = 10) -> Response:
        return _reply(await service.find(q, limit))

    @app.get("/v1/items/{id}", response_model=Item, tags=["items"], summary="One item")
    async def item(id: ItemId) -> Response:
        return _reply(service.item(id))

    @app.get("/v1/items/{id}/similar", response_model=Answer, tags=["queries"], summary="What is similar to an item")
    async def similar(id: ItemId, options: HitOptions) -> Response:
        return _reply(await service.similar(id, options))

    @app.get("/v1/similar", response_model=Answer, tags=["queries"], summary="The same, for ids that fit no path")
    async def similar_by_query(id: QueryId, options: HitOptions) -> Response:
        return _reply(await service.similar(id, options))

    @app.post("/v1/recommend", response_model=Answer, tags=["queries"], summary="What goes with these items")
    async def recommend(request: RecommendRequest) -> Response:
        return _reply(await service.recommend(request))

    @app.get("/v1/score", response_model=Score, tags=["queries"], summary="The score of one pair")
    async def score(a: QueryId, b: QueryId) -> Response:
        return _reply(await service.score(a, b))

    @app.get("/v1/snapshots", response_model=Snapshots, tags=["snapshots"], summary="What the store holds")
    async def list_snapshots() -> Response:
        serving = service.table.name if service.table else None
        body = await asyncio.to_thread(snapshots, store, serving)
        return Response(orjson.dumps(body), media_type="application/json")


def _add_operations(app: FastAPI, health: Callable[[], dict[str, Any]]) -> None:
    @app.get("/livez", tags=["operations"], summary="Whether the process answers")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], summary="Whether queries can be answered")
    async def readyz() -> Response:
        state = health()
        if state["snapshot"] is None:
            return problem(503, "Not ready", state["problem"] or "no snapshot is open yet")
        return Response(orjson.dumps({"status": "ok", "snapshot": state["snapshot"]}), media_type="application/json")

    @app.get("/healthz", response_model=Health, tags=["operations"], summary="What state the replica is in")
    async def healthz() -> Response:
        state = health()
        status = 503 if state["status"] == "unavailable" else 200
        return Response(orjson.dumps(state), status, media_type="application/json")


def _add_docs(app: FastAPI) -> None:
    """Swagger UI from the files of the fastapi-swagger wheel: nothing is loaded from another host."""
    blank_icon = "data:,"

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        return get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="simshard",
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=blank_icon,
        )

    @app.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404, "Not Found")
        content = (resources.files("fastapi_swagger") / "resources" / name).read_bytes()
        return Response(content, headers={"Cache-Control": "max-age=86400"}, media_type=_ASSETS[name])


class Gate:
    """ASGI middleware: the API key, where one is set, and the limit on bodies, before anything is parsed."""

    def __init__(self, app: FastAPI, api_key: str | None) -> None:
        self._app = app
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if self._key is not None and not self._admits(scope):
            answer = problem(401, "Unauthorized", "send the API key as `Authorization: Bearer KEY`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            await answer(scope, receive, send)
            return
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = await _read(receive)
            if body is None:
                await problem(413, "Body too large", f"a body may have {MAX_BODY} bytes")(scope, receive, send)
                return
            receive = _replay(body, receive)
        await self._app(scope, receive, send)

    def _admits(self, scope: Scope) -> bool:
        path = scope["path"].removeprefix(scope.get("root_path", "").rstrip("/"))
        if path in _OPEN_PATHS:
            return True
        headers = dict(scope["headers"])
        given = headers.get(b"x-api-key") or headers.get(b"authorization", b"").removeprefix(b"Bearer ")
        assert self._key is not None
        return hmac.compare_digest(given, self._key)


async def _read(receive: Receive) -> bytes | None:
    """The whole body; None if it is larger than allowed."""
    chunks = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        size += len(message.get("body", b""))
        if size > MAX_BODY:
            return None
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Receive:
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def replayed() -> MutableMapping[str, Any]:
        return next(messages, None) or await receive()

    return replayed
