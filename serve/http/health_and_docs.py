"""What operators and readers ask: health, and the documentation from files of this machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import orjson
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from simshard.serve.http.access import GuardedRoute
from simshard.serve.http.openapi import JSON, Operation
from simshard.serve.http.responses import refusal
from simshard.serve.http.static_page import guarded, script_hashes
from simshard.serve.schema.answers import Health

_ASSETS = {"swagger-ui-bundle.js": "application/javascript", "swagger-ui.css": "text/css"}


def health_operations(health: Callable[[], dict[str, Any]]) -> list[Operation]:
    """/livez, /readyz and /healthz; `health` gives the body of the last."""

    async def livez(_: Request) -> Response:
        return Response(b'{"status":"ok"}', media_type=JSON)

    async def readyz(_: Request) -> Response:
        state = health()
        if state["snapshot"] is None:
            return refusal(503, "Not ready", state["problem"] or "no snapshot is open yet")
        return Response(orjson.dumps({"status": "ok", "snapshot": state["snapshot"]}), media_type=JSON)

    async def healthz(_: Request) -> Response:
        state = health()
        return Response(orjson.dumps(state), 503 if state["status"] == "unavailable" else 200, media_type=JSON)

    tag = "operations"
    return [
        Operation("GET", "/livez", livez, "Whether the process answers", tag, access="open"),
        Operation("GET", "/readyz", readyz, "Whether queries can be answered", tag, access="open"),
        Operation("GET", "/healthz", healthz, "What state the replica is in", tag, response=Health),
    ]


def docs_routes(document: Callable[[], dict[str, Any]]) -> list[GuardedRoute]:
    """The OpenAPI document, and Swagger UI from the files of the fastapi-swagger wheel, without any other host."""
    blank_icon = "data:,"

    async def openapi(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        servers = {"servers": [{"url": root}]} if root else {}
        return Response(orjson.dumps(document() | servers), media_type=JSON)

    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        page = get_swagger_ui_html(
            openapi_url=f"{root}/openapi.json",
            title="simshard",
            swagger_js_url=f"{root}/docs/swagger-ui-bundle.js",
            swagger_css_url=f"{root}/docs/swagger-ui.css",
            swagger_favicon_url=blank_icon,
        )
        page.headers.update(guarded(scripts=script_hashes(bytes(page.body)), styles=["'unsafe-inline'"]))
        return page

    def asset(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in _ASSETS:
            raise HTTPException(404, "Not Found")
        content = (resources.files("fastapi_swagger") / "resources" / name).read_bytes()
        return Response(content, headers={"Cache-Control": "max-age=86400", **guarded()}, media_type=_ASSETS[name])

    return [
        GuardedRoute("/openapi.json", openapi, "key"),
        GuardedRoute("/docs", docs, "key"),
        GuardedRoute("/docs/{name}", asset, "key"),
    ]
