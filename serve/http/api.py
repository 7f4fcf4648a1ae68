"""The HTTP API over the service, on Starlette; errors become problems."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import orjson
import pyarrow as pa
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from simshard.serve.engine.answer_job import AnswerJob
from simshard.serve.engine.batch import answer_batch
from simshard.serve.engine.bulk import NPY, GivenIds, read_ids
from simshard.serve.engine.cache_keys import entity_tag
from simshard.serve.engine.service import Service
from simshard.serve.engine.snapshot_list import list_snapshots
from simshard.serve.http.access import Guard, GuardedRoute
from simshard.serve.http.conditional import not_modified
from simshard.serve.http.fast_path import FastPath
from simshard.serve.http.health_and_docs import docs_routes, health_operations
from simshard.serve.http.openapi import JSON, Operation, document
from simshard.serve.http.parameters import InvalidBody, from_body, from_query, media_type
from simshard.serve.http.responses import problem, refusal, respond
from simshard.serve.http.static_page import page_routes
from simshard.serve.schema.answers import (
    Answer,
    Attributes,
    Batch,
    FoundItems,
    HiddenState,
    Item,
    Pointer,
    Score,
    Snapshots,
)
from simshard.serve.schema.problems import problem_of
from simshard.serve.schema.requests import (
    AttributesRequest,
    BatchRequest,
    BulkOptions,
    BulkRequest,
    FindRequest,
    RankRequest,
    RecommendRequest,
    ScoreRequest,
    SimilarRequest,
)
from simshard.serve.schema.values import Model
from simshard.shards.errors import SimshardError
from simshard.shards.hidden import hide_item
from simshard.shards.plain_values import plain_id
from simshard.shards.snapshot_store import SnapshotStore

ARROW = "application/vnd.apache.arrow.stream"


def build_api(
    service: Service,
    store: SnapshotStore,
    api_key: str | None,
    health: Callable[[], dict[str, Any]],
    admin_key: str | None = None,
) -> Guard:
    """The ASGI application; `health` gives the body of /healthz."""
    cache_control = "private, no-cache" if api_key else "no-cache"
    operations = [
        *_query_operations(service, cache_control),
        *_store_operations(service, store, cache_control),
        *health_operations(health),
    ]

    @functools.cache
    def described() -> dict[str, Any]:
        about = "What is similar to this item, and what goes with these: exact answers from precomputed scores."
        return document(operations, "simshard", version("simshard"), about)

    routes: list[GuardedRoute] = [
        *(operation.route for operation in operations),
        *docs_routes(described),
        *page_routes(lambda: service.table.image_origins if service.table else ()),
    ]
    app = Starlette(routes=routes, exception_handlers=_problems(service))
    return Guard(FastPath(app, service, cache_control), routes, api_key, admin_key)


def _problems(service: Service) -> dict[Any, Any]:
    async def on_known(_: Request, error: SimshardError) -> Response:
        return problem(problem_of(service.explained(error)))

    async def on_body(_: Request, error: InvalidBody) -> Response:
        return refusal(400, "Invalid JSON", str(error))

    async def on_http(request: Request, error: HTTPException) -> Response:
        answer = refusal(error.status_code, str(error.detail), f"{request.method} {request.url.path}: {error.detail}")
        answer.headers.update(error.headers or {})
        return answer

    async def on_unknown(_: Request, error: Exception) -> Response:
        return problem(problem_of(SimshardError(str(error))))

    return {SimshardError: on_known, InvalidBody: on_body, HTTPException: on_http, Exception: on_unknown}


def _query_operations(service: Service, cache_control: str) -> list[Operation]:
    async def get(request: Request, job: AnswerJob) -> Response:
        known = not_modified(request, {"ETag": job.etag, "Cache-Control": cache_control, "X-Snapshot": job.table.name})
        return known or respond(await service.answer(job), cache_control)

    async def find(request: Request) -> Response:
        options = from_query(FindRequest, request)
        return await get(request, service.find(options.q, options.limit))

    async def attributes(request: Request) -> Response:
        return await get(request, service.attributes(from_query(AttributesRequest, request).values))

    async def similar(request: Request) -> Response:
        options = from_query(SimilarRequest, request, **request.path_params)
        await service.adopted(options.snapshot)
        return await get(request, service.similar(options))

    async def similar_by_query(request: Request) -> Response:
        return await similar(request)

    async def item(request: Request) -> Response:
        from_query(Model, request)
        return await get(request, service.item(request.path_params["id"]))

    async def recommend(request: Request) -> Response:
        options = await from_body(RecommendRequest, request)
        await service.adopted(options.snapshot)
        return respond(await service.answer(service.recommend(options)))

    async def batch(request: Request) -> Response:
        bodies = await answer_batch(service, (await from_body(BatchRequest, request)).requests)
        return Response(b'{"responses":[' + b",".join(bodies) + b"]}", media_type=JSON)

    async def rank(request: Request) -> Response:
        options = await from_body(RankRequest, request)
        await service.adopted(options.snapshot)
        return respond(await service.answer(service.rank(options)))

    async def bulk(request: Request) -> Response:
        options: BulkOptions
        ids: GivenIds = ()
        if media_type(request) == NPY:
            options, ids = from_query(BulkOptions, request), read_ids(await request.body())
        else:
            from_query(Model, request)
            options = await from_body(BulkRequest, request)
        await service.adopted(options.snapshot)
        try:
            name, table = await service.nearest(options, ids)
            return Response(await asyncio.to_thread(_stream, table), 200, {"X-Snapshot": name}, ARROW)
        finally:
            service.releasing.soon()

    async def score(request: Request) -> Response:
        options = from_query(ScoreRequest, request)
        return await get(request, service.score(options.a, options.b))

    hits: Any = {"query": SimilarRequest, "response": Answer, "conditional": True}
    one_hits = "What is similar to an item"
    many = "What is similar to each of many items, as an Arrow stream: id, rank, neighbor, score. "
    many += "A body of JSON holds all, beside an array of ids stand the options in the query string"
    items: Any = {"tag": "items", "conditional": True}
    return [
        Operation("GET", "/v1/items/{id:path}/similar", similar, one_hits, "queries", **hits),
        Operation("GET", "/v1/similar", similar_by_query, "The same, for ids that fit no path", "queries", **hits),
        Operation("GET", "/v1/items", find, "Items by title", query=FindRequest, response=FoundItems, **items),
        Operation(
            "GET",
            "/v1/attributes",
            attributes,
            "What values the attributes have",
            query=AttributesRequest,
            response=Attributes,
            **items,
        ),
        Operation("GET", "/v1/items/{id:path}", item, "One item", response=Item, **items),
        _post("/v1/recommend", recommend, "What goes with these items", RecommendRequest, Answer),
        _post("/v1/recommend/batch", batch, "Many such requests at once", BatchRequest, Batch),
        _post("/v1/rank", rank, "Given items in order for the seeds", RankRequest, Answer),
        Operation(
            "POST",
            "/v1/similar/bulk",
            bulk,
            many,
            "queries",
            query=BulkOptions,
            body=BulkRequest,
            array=NPY,
            media=ARROW,
        ),
        Operation(
            "GET",
            "/v1/score",
            score,
            "The score of one pair",
            "queries",
            query=ScoreRequest,
            response=Score,
            conditional=True,
        ),
    ]


def _post(path: str, answer: Any, summary: str, body: type[Model], response: Any) -> Operation:
    return Operation("POST", path, answer, summary, "queries", body=body, response=response)


def _stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _store_operations(service: Service, store: SnapshotStore, cache_control: str) -> list[Operation]:
    """What an operator sees and changes in the store; `Guard` asks for the admin key where they say so."""

    async def changed(change: Callable[..., Any], *arguments: str) -> Response:
        now = await asyncio.to_thread(change, *arguments)
        return Response(orjson.dumps({"active": now.active, "previous": now.previous}), media_type=JSON)

    async def set_hidden(id: str, hide: bool) -> Response:
        found, hidden = await asyncio.to_thread(hide_item, store, service.opened().items, id, hide)
        service.hide(hidden)
        body = {"id": plain_id(found), "hidden": hide, "version": hidden.version}
        return Response(orjson.dumps(body), media_type=JSON)

    async def list_all(request: Request) -> Response:
        serving = service.table.name if service.table else None
        body = orjson.dumps(await asyncio.to_thread(list_snapshots, store, serving, service.names))
        headers = {"ETag": entity_tag(body), "Cache-Control": cache_control}
        return not_modified(request, headers) or Response(body, 200, headers, JSON)

    async def rollback(_: Request) -> Response:
        return await changed(store.rollback)

    async def activate(request: Request) -> Response:
        return await changed(store.activate, request.path_params["name"])

    async def hide(request: Request) -> Response:
        return await set_hidden(request.path_params["id"], True)

    async def unhide(request: Request) -> Response:
        return await set_hidden(request.path_params["id"], False)

    pointer: Any = {"tag": "snapshots", "response": Pointer, "access": "admin"}
    hidden: Any = {"tag": "items", "response": HiddenState, "access": "admin"}
    return [
        Operation(
            "GET",
            "/v1/snapshots",
            list_all,
            "What the store holds",
            "snapshots",
            response=Snapshots,
            conditional=True,
        ),
        Operation("POST", "/v1/snapshots/rollback", rollback, "Back to the one before", **pointer),
        Operation("POST", "/v1/snapshots/{name}/activate", activate, "Serve this one", **pointer),
        Operation("PUT", "/v1/items/{id:path}/hidden", hide, "Hide an item", **hidden),
        Operation("DELETE", "/v1/items/{id:path}/hidden", unhide, "Show it again", **hidden),
    ]
