"""Routes for operators and readers: health, and the documentation from files of this machine."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import Any

import orjson
from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.openapi.docs import get_swagger_ui_html

from simshard.serve.answers import Health
from simshard.serve.gate import refusal
from simshard.serve.page import guarded, script_hashes

_ASSETS = {"swagger-ui-bundle.js": "application/javascript", "swagger-ui.css": "text/css"}


def add_operations(app: FastAPI, health: Callable[[], dict[str, Any]]) -> None:
    """Add /livez, /readyz and /healthz; `health` gives the body of the last."""

    @app.get("/livez", tags=["operations"], summary="Whether the process answers")
    async def livez() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", tags=["operations"], summary="Whether queries can be answered")
    async def readyz() -> Response:
        state = health()
        if state["snapshot"] is None:
            return refusal(503, "Not ready", state["problem"] or "no snapshot is open yet")
        return Response(orjson.dumps({"status": "ok", "snapshot": state["snapshot"]}), media_type="application/json")

    @app.get("/healthz", response_model=Health, tags=["operations"], summary="What state the replica is in")
    async def healthz() -> Response:
        state = health()
        status = 503 if state["status"] == "unavailable" else 200
        return Response(orjson.dumps(state), status, media_type="application/json")


def add_docs(app: FastAPI) -> None:
    """Swagger UI from the files of the fastapi-swagger wheel: nothing is loaded from another host."""
    blank_icon = "data:,"

    @app.get("/docs", include_in_schema=False)
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

    @app.get("/docs/{name}", include_in_schema=False)
    def asset(name: str) -> Response:
        if name not in _ASSETS:
            raise HTTPException(404, "Not Found")
        content = (resources.files("fastapi_swagger") / "resources" / name).read_bytes()
        return Response(content, headers={"Cache-Control": "max-age=86400", **guarded()}, media_type=_ASSETS[name])
