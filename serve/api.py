"""FastAPI over the service; errors become problems."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import orjson
import pyarrow as pa
from fastapi import FastAPI, Path, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from simshard.serve.answers import (
    Answer,
    Attributes,
    Batch,
    FoundItems,
    HiddenState,
    Item,
    Pointer,
    Problem,
    Score,
    Snapshots,
    problem_of,
)
from simshard.serve.asked import Asked, Reply, entity_tag, names_tag
from simshard.serve.batch import answer_batch
from simshard.serve.gate import Gate, problem, refusal
from simshard.serve.operations import add_docs, add_operations
from simshard.serve.page import add_page
from simshard.serve.parameters import check_parameters, described, similar_request
from simshard.serve.parsing import fault_of
from simshard.serve.requests import (
    BatchRequest,
    BulkRequest,
    HitOptions,
    Limit,
    RankRequest,
    RecommendRequest,
    SimilarRequest,
)
from simshard.serve.service import MOST_VALUES, Service
from simshard.serve.snapshots import list_snapshots
from simshard.shards.errors import InvalidQuery, SimshardError
from simshard.shards.hidden import hide_item
from simshard.shards.items import plain_id
from simshard.shards.store import Store

ARROW = "application/vnd.apache.arrow.stream"
_PROBLEM: dict[str, Any] = {"model": Problem, "content": {"application/problem+json": {}}}
_NOT_MODIFIED: dict[int | str, Any] = {304: {"description": "What If-None-Match names is still the answer"}}
_FORBIDDEN: dict[int | str, Any] = {403: _PROBLEM}

ItemId = Annotated[str, Path(description="The item's id as text.")]
QueryId = Annotated[str, Query(min_length=1, description="The item's id as text.")]
SearchText = Annotated[
    str,
    Query(
        max_length=200,
        description="Beginnings of words of the title, in any case, without accents; or an id. None: all.",
    ),
]
Values = Annotated[int, Query(ge=0, le=MOST_VALUES, description="Most values to list of each attribute.")]


def build_api(
    service: Service,
    store: Store,
    api_key: str | None,
    health: Callable[[], dict[str, Any]],
    admin_key: str | None = None,
) -> Gate:
    """The ASGI application; `health` gives the body of /healthz."""
    app = FastAPI(
        title="simshard",
        version=version("simshard"),
        description="What is similar to this item, and what goes with these: exact answers from precomputed scores.",
        docs_url=None,
        redoc_url=None,
        responses=dict.fromkeys((400, 401, 404, 409, 413, 422, 503, 504), _PROBLEM),
    )
    _add_errors(app, service)
    cache_control = "private, no-cache" if api_key else "no-cache"
    _add_queries(app, service, cache_control)
    _add_changes(app, service, store, cache_control)
    add_operations(app, health)
    add_docs(app)
    add_page(app, lambda: service.table.image_origins if service.table else ())
    return Gate(app, api_key, admin_key)


def _add_errors(app: FastAPI, service: Service) -> None:
    @app.exception_handler(SimshardError)
    async def on_known(_: Request, error: SimshardError) -> Response:
        return problem(problem_of(service.explained(error)))

    @app.exception_handler(RequestValidationError)
    async def on_invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
        first = errors[0]
        if first["type"] == "json_invalid":
            detail = f"the body is not JSON: {first['ctx']['error']} at byte {first['loc'][0]}"
            return refusal(400, "Invalid JSON", detail)
        fault = fault_of(errors)
        if fault.field == "body" and "json" not in request.headers.get("content-type", ""):
            fault = InvalidQuery("body", "send it with content-type: application/json")
        return problem(problem_of(service.explained(fault)))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        answer = refusal(error.status_code, str(error.detail), f"{request.method} {request.url.path}: {error.detail}")
        answer.headers.update(error.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def on_unknown(_: Request, error: Exception) -> Response:
        return problem(problem_of(SimshardError(str(error))))


def _add_queries(app: FastAPI, service: Service, cache_control: str) -> None:
    def reply(answer: Reply) -> Response:
        headers = {"X-Cache": answer.outcome, "X-Snapshot": answer.snapshot}
        headers["Server-Timing"] = ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in answer.stages.items())
        if answer.shards:
            headers["X-Shards"] = ",".join(map(str, answer.shards))
        return Response(answer.body, 200, headers, "application/json")

    async def get(request: Request, asked: Asked) -> Response:
        if names_tag(request.headers.getlist("if-none-match"), asked.etag):
            headers = {"ETag": asked.etag, "Cache-Control": cache_control, "X-Snapshot": asked.table.name}
            return Response(None, 304, headers)
        answer = await service.answer(asked)
        response = reply(answer)
        response.headers["Cache-Control"] = cache_control if answer.etag else "no-store"
        if answer.etag:
            response.headers["ETag"] = answer.etag
        return response

    async def asked(options: SimilarRequest) -> Asked:
        await service.adopted(options.snapshot)
        return service.similar(options)

    tags: Any = {"tags": ["queries"]}
    items: Any = {"tags": ["items"], "responses": _NOT_MODIFIED}

    @app.get("/v1/items", response_model=FoundItems, summary="Items by title", **items)
    async def find(request: Request, q: SearchText = "", limit: Annotated[Limit, Query(strict=False)] = 10) -> Response:
        check_parameters(request, "q", "limit")
        return await get(request, service.find(q, limit))

    @app.get("/v1/attributes", response_model=Attributes, summary="What values the attributes have", **items)
    async def attributes(request: Request, values: Values = 100) -> Response:
        check_parameters(request, "values")
        return await get(request, service.attributes(values))

    @app.get(
        "/v1/items/{id:path}/similar",
        response_model=Answer,
        summary="What is similar to an item",
        responses=_NOT_MODIFIED,
        openapi_extra=described(HitOptions),
        **tags,
    )
    async def similar(request: Request, id: ItemId) -> Response:
        return await get(request, await asked(similar_request(request, id=id)))

    @app.get("/v1/items/{id:path}", response_model=Item, summary="One item", **items)
    async def item(request: Request, id: ItemId) -> Response:
        check_parameters(request)
        return await get(request, service.item(id))

    @app.get(
        "/v1/similar",
        response_model=Answer,
        summary="The same, for ids that fit no path",
        responses=_NOT_MODIFIED,
        openapi_extra=described(SimilarRequest),
        **tags,
    )
    async def similar_by_query(request: Request) -> Response:
        return await get(request, await asked(similar_request(request)))

    @app.post("/v1/recommend", response_model=Answer, summary="What goes with these items", **tags)
    async def recommend(request: RecommendRequest) -> Response:
        await service.adopted(request.snapshot)
        return reply(await service.answer(service.recommend(request)))

    @app.post("/v1/recommend/batch", response_model=Batch, summary="Many such requests at once", **tags)
    async def batch(request: BatchRequest) -> Response:
        bodies = await answer_batch(service, request.requests)
        return Response(b'{"responses":[' + b",".join(bodies) + b"]}", media_type="application/json")

    @app.post("/v1/rank", response_model=Answer, summary="Given items in order for the seeds", **tags)
    async def rank(request: RankRequest) -> Response:
        await service.adopted(request.snapshot)
        return reply(await service.answer(service.rank(request)))

    @app.post(
        "/v1/similar/bulk",
        response_class=Response,
        summary="What is similar to each of many items, as an Arrow stream",
        responses={200: {"content": {ARROW: {}}, "description": "id, rank, neighbor, score"}},
        **tags,
    )
    async def bulk(request: BulkRequest) -> Response:
        await service.adopted(request.snapshot)
        name, table = await service.nearest(request)
        return Response(await asyncio.to_thread(_stream, table), 200, {"X-Snapshot": name}, ARROW)

    @app.get("/v1/score", response_model=Score, summary="The score of one pair", responses=_NOT_MODIFIED, **tags)
    async def score(request: Request, a: QueryId, b: QueryId) -> Response:
        check_parameters(request, "a", "b")
        return await get(request, service.score(a, b))


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _add_changes(app: FastAPI, service: Service, store: Store, cache_control: str) -> None:
    """What an operator sees and changes in the store; `Gate` asks for the admin key."""

    def pointer(change: Callable[..., Any], *arguments: str) -> Response:
        now = change(*arguments)
        return Response(orjson.dumps({"active": now.active, "previous": now.previous}), media_type="application/json")

    async def set_hidden(id: str, hide: bool) -> Response:
        found, hidden = await asyncio.to_thread(hide_item, store, service.opened().items, id, hide)
        service.selections.hidden = hidden
        body = {"id": plain_id(found), "hidden": hide, "version": hidden.version}
        return Response(orjson.dumps(body), media_type="application/json")

    tags: Any = {"tags": ["snapshots"]}
    admin: Any = {"responses": _FORBIDDEN}

    @app.get(
        "/v1/snapshots",
        response_model=Snapshots,
        summary="What the store holds",
        responses=_NOT_MODIFIED,
        **tags,
    )
    async def list_all(request: Request) -> Response:
        serving = service.table.name if service.table else None
        body = orjson.dumps(await asyncio.to_thread(list_snapshots, store, serving, service.names))
        headers = {"ETag": entity_tag(body), "Cache-Control": cache_control}
        if names_tag(request.headers.getlist("if-none-match"), headers["ETag"]):
            return Response(None, 304, headers)
        return Response(body, 200, headers, "application/json")

    @app.post("/v1/snapshots/rollback", response_model=Pointer, summary="Back to the one before", **tags, **admin)
    async def rollback() -> Response:
        return await asyncio.to_thread(pointer, store.rollback)

    @app.post("/v1/snapshots/{name}/activate", response_model=Pointer, summary="Serve this one", **tags, **admin)
    async def activate(name: str) -> Response:
        return await asyncio.to_thread(pointer, store.activate, name)

    @app.put("/v1/items/{id:path}/hidden", response_model=HiddenState, summary="Hide an item", tags=["items"], **admin)
    async def hide(id: ItemId) -> Response:
        return await set_hidden(id, True)

    @app.delete(
        "/v1/items/{id:path}/hidden", response_model=HiddenState, summary="Show it again", tags=["items"], **admin
    )
    async def unhide(id: ItemId) -> Response:
        return await set_hidden(id, False)
