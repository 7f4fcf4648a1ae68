"""Conditional requests: an ETag with an answer, and 304 where the client has that answer already."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response


def not_modified(request: Request, headers: Mapping[str, str]) -> Response | None:
    """304 with these headers, the ETag of the answer among them, where If-None-Match names that; else None."""
    given = [tag.strip() for value in request.headers.getlist("if-none-match") for tag in value.split(",")]
    if headers["ETag"] not in [tag.removeprefix("W/") for tag in given]:
        return None
    return Response(None, 304, headers)
