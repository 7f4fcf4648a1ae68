"""An ASGI application called as a function: what answers HTTP that comes over a Serve handle."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from simshard.serve.http.access import GRANT, Access
from simshard.serve.http.responses import AsgiApp

RawResponse = tuple[int, list[tuple[str, str]], bytes | pa.Buffer]
_LARGE = 1 << 16


async def call(
    app: AsgiApp, method: str, target: str, headers: Mapping[str, str], body: bytes, access: Access
) -> RawResponse:
    """Status, headers and body of the answer to one request; a failure after it has begun is not raised.

    access: what the caller may use, whatever keys the headers bring.

    A large body is an Arrow buffer, which Ray carries as it is, where it would copy bytes several times.
    """
    path, _, query = target.partition("?")
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()],
        "client": None,
        GRANT: access,
        "server": ("replica", None),
    }
    begun: MutableMapping[str, Any] = {}
    parts: list[bytes] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            begun.update(message)
        elif message.get("body"):
            parts.append(message["body"])

    try:
        await app(scope, receive, send)
    except Exception:
        if not begun:  # else Starlette has answered that something is wrong, and raised it again for the server's log
            raise
    told = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in begun["headers"]]
    whole = parts[0] if len(parts) == 1 else b"".join(parts)
    return begun["status"], told, pa.py_buffer(whole) if len(whole) > _LARGE else whole
