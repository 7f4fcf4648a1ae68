"""ASGI middleware before the application: keys, the limit on bodies, what holds for every answer."""

from __future__ import annotations

import hmac
import re
from collections.abc import MutableMapping
from typing import Any
from urllib.parse import quote

from starlette.responses import Response

from simshard.serve.http.responses import App, Receive, Scope, Send, refusal
from simshard.serve.schema.keys import ADMIN_KEY_VARIABLE

MAX_BODY = 1 << 20
_OPEN_PATHS = ("/livez", "/readyz")
# No way up, and no data but the names of the hosts that pictures come from, in the page's policy.
_PAGE = re.compile(r"/(?:favicon\.svg|assets/[A-Za-z0-9_-][A-Za-z0-9._-]*)?")
_IN_QUERY = "%/?:@!$&'()*+,;=[]"
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class Access:
    """Lets requests through that bring the key that they need and no more than MAX_BODY bytes.

    api_key: needed by every request but those for the page and for signs of life, where one is set; admin_key: needed
    to change anything, and good for all else.
    """

    def __init__(self, app: App, api_key: str | None, admin_key: str | None) -> None:
        self.app = app
        self._key = api_key.encode() if api_key else None
        self._admin = admin_key.encode() if admin_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def marked(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], _NO_SNIFFING]
            await send(message)

        await self._answer(scope, receive, marked)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        given = scope.get("root_path", "")
        root = given.rstrip("/")
        if root != given:  # Starlette would find no path under it
            scope = {**scope, "root_path": root}
        path = scope["path"].removeprefix(root)
        bare = root and not path and scope["method"] in ("GET", "HEAD")
        refused = to_folder(scope, root) if bare else self._refusal(scope, path)
        if refused is not None:
            await refused(scope, receive, send)
            return
        if scope["method"] in ("POST", "PUT", "PATCH"):
            body = await _read(receive)
            if body is None:
                await refusal(413, "Body too large", f"a body may have {MAX_BODY} bytes")(scope, receive, send)
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, path: str) -> Response | None:
        if self._key is None and not changes(scope["method"], path):
            return None
        headers = dict(scope["headers"])
        given = [headers.get(b"x-api-key", b""), headers.get(b"authorization", b"").removeprefix(b"Bearer ")]

        def brings(key: bytes | None) -> bool:
            return key is not None and any([hmac.compare_digest(each, key) for each in given])

        if brings(self._admin):
            return None
        known = self._key is None or brings(self._key)
        if not known and path not in _OPEN_PATHS and not _of_page(scope["method"], path):
            answer = refusal(401, "Unauthorized", "send the API key as `Authorization: Bearer KEY`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        if changes(scope["method"], path):
            hint = "send the admin key as `Authorization: Bearer KEY`"
            if self._admin is None:
                hint = f"this server has no admin key; start it with {ADMIN_KEY_VARIABLE}"
            return refusal(403, "Forbidden", f"changes need the admin key: {hint}")
        return None


def _of_page(method: str, path: str) -> bool:
    return method in ("GET", "HEAD") and _PAGE.fullmatch(path) is not None


def changes(method: str, path: str) -> bool:
    """Whether a request would change the store: by its method, as what a route takes for its path is the route's."""
    return method in ("PUT", "PATCH", "DELETE") or (method == "POST" and path.startswith("/v1/snapshots"))


def to_folder(scope: Scope, root: str) -> Response:
    """From the route prefix itself to the page below it: relative, so that a proxy may serve it under another folder,
    with the same last name.
    """
    query = scope.get("query_string", b"").decode("latin-1")
    target = f"./{quote(root.rpartition('/')[2], safe=':@')}/" + (f"?{quote(query, safe=_IN_QUERY)}" if query else "")
    return Response(None, 307, {"Location": target})


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
