"""HTTP responses: answers and problems; ASGI's types."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson
from starlette.responses import Response

from simshard.serve.engine.answer_job import EncodedAnswer

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
AsgiApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_TYPE = (b"content-type", b"application/json")


class Encoded(Response):
    """A JSON body with these headers, without what Starlette looks at for other responses."""

    def __init__(self, body: bytes, headers: Headers) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = headers


def respond(answer: EncodedAnswer, cache_control: str | None = None) -> Response:
    """An answer; cache_control: what it says where it may be kept by whoever asked, None: it says nothing of that."""
    headers: Headers = [
        (b"content-length", b"%d" % len(answer.body)),
        JSON_TYPE,
        (b"x-cache", answer.outcome.encode()),
        (b"x-snapshot", answer.snapshot.encode()),
        (b"server-timing", ", ".join(f"{stage};dur={ms:.3f}" for stage, ms in answer.stages.items()).encode()),
    ]
    if answer.shards:
        headers.append((b"x-shards", ",".join(map(str, answer.shards)).encode()))
    if cache_control is not None and answer.etag is None:
        headers.append((b"cache-control", b"no-store"))
    elif cache_control is not None and answer.etag is not None:
        headers += [(b"cache-control", cache_control.encode()), (b"etag", answer.etag.encode())]
    return Encoded(answer.body, headers)


def problem(body: dict[str, Any]) -> Response:
    """An RFC 9457 answer with this body."""
    headers = {"Retry-After": "1"} if body["status"] == 503 else None
    return Response(orjson.dumps(body), body["status"], headers, "application/problem+json")


def refusal(status: int, title: str, detail: str) -> Response:
    """An RFC 9457 answer that names no part of the request."""
    return problem({"type": "about:blank", "title": title, "status": status, "detail": detail})
