"""ASGI middleware before the application: keys, the limit on bodies, what holds for every answer."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any, Literal
from urllib.parse import quote

from starlette.responses import Response
from starlette.routing import Match, Route

from simshard.serve.http.responses import AsgiApp, Receive, Scope, Send, refusal
from simshard.serve.schema.keys import ADMIN_KEY_VARIABLE

Access = Literal["open", "key", "admin"]

GRANT = "simshard.grant"  # in a scope, put there by code in this process alone: what the caller may use without a key
MAX_BODY = 1 << 20
_LEVELS: tuple[Access, ...] = ("open", "key", "admin")
_OPEN, _KEY, _ADMIN = range(3)
_CHANGING = ("PUT", "PATCH", "DELETE")
_IN_QUERY = "%/?:@!$&'()*+,;=[]"
_NO_SNIFFING = (b"x-content-type-options", b"nosniff")


class GuardedRoute(Route):
    """A route that says who may take it: everybody, holders of the API key, or holders of the admin key.

    names: what parameters of the path must look like; others are not of this route. None: anything.
    """

    def __init__(
        self,
        path: str,
        endpoint: Callable[..., Any],
        access: Access,
        methods: Sequence[str] = ("GET",),
        names: re.Pattern[str] | None = None,
    ) -> None:
        super().__init__(path, endpoint, methods=list(methods))
        self.level = _LEVELS.index(access)
        self._names = names

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """As Starlette has it, where the parameters look like that: for the guard and the router alike."""
        match, child = super().matches(scope)
        if self._names is not None and match is not Match.NONE:
            given = child["path_params"].values()
            if not all(self._names.fullmatch(str(each)) for each in given):
                return Match.NONE, {}
        return match, child


class Guard:
    """Lets requests through that bring the key that their route asks for and no more than MAX_BODY bytes.

    routes: those of the application, in order. A request that none of them answers needs the API key, and the admin
    key where its method is one that changes something. Where no API key is set, everybody has it.
    """

    def __init__(
        self, app: AsgiApp, routes: Sequence[GuardedRoute], api_key: str | None, admin_key: str | None
    ) -> None:
        self.app = app
        self._key = api_key.encode() if api_key else None
        self._admin = admin_key.encode() if admin_key else None
        self._routes: dict[str, list[GuardedRoute]] = {}
        for route in routes:
            for method in route.methods or ():
                self._routes.setdefault(method, []).append(route)
        # Where nothing under a method asks for more than a request brings, no route has to be looked for.
        self._most = {method: max(route.level for route in mine) for method, mine in self._routes.items()}
        self._most |= dict.fromkeys(_CHANGING, _ADMIN)

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
        if scope["method"] in ("POST", "PUT", "PATCH") and GRANT not in scope:
            body = await _read(receive)
            if body is None:
                await refusal(413, "Body too large", f"a body may have {MAX_BODY} bytes")(scope, receive, send)
                return
            receive = _replay(body, receive)
        await self.app(scope, receive, send)

    def _refusal(self, scope: Scope, path: str) -> Response | None:
        """The answer to a request that brings too little, or whose path is none; None where it is to go on."""
        has = self._brings(scope)
        line = path.endswith("\n")  # which patterns of routes let pass
        if (has < self._most.get(scope["method"], _KEY) or line) and has < self._needs(scope, line):
            return self._without(has)
        return refusal(404, "Not Found", "a path does not end with a newline") if line else None

    def _without(self, has: int) -> Response:
        if has < _KEY:
            answer = refusal(401, "Unauthorized", "send the API key as `Authorization: Bearer KEY`")
            answer.headers["WWW-Authenticate"] = "Bearer"
            return answer
        hint = "send the admin key as `Authorization: Bearer KEY`"
        if self._admin is None:
            hint = f"this server has no admin key; start it with {ADMIN_KEY_VARIABLE}"
        return refusal(403, "Forbidden", f"changes need the admin key: {hint}")

    def _brings(self, scope: Scope) -> int:
        granted: Access | None = scope.get(GRANT)
        if granted is not None:
            return _LEVELS.index(granted)
        everybody = _KEY if self._key is None else _OPEN
        if everybody and self._admin is None:
            return _KEY
        headers = dict(scope["headers"])
        given = [headers.get(b"x-api-key", b""), headers.get(b"authorization", b"").removeprefix(b"Bearer ")]

        def brings(key: bytes | None) -> bool:
            return key is not None and any([hmac.compare_digest(each, key) for each in given])

        if brings(self._admin):
            return _ADMIN
        return _KEY if brings(self._key) else everybody

    def _needs(self, scope: Scope, line: bool) -> int:
        """What the route of a request asks for; line: it has none, as its path ends with a newline."""
        for route in () if line else self._routes.get(scope["method"], ()):
            if route.matches(scope)[0] is Match.FULL:
                return route.level
        return _ADMIN if scope["method"] in _CHANGING else _KEY


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
