"""The best of one item, with nothing else asked, straight from the request to the bytes: no model, no task, no wait."""

from __future__ import annotations

import re
import time
import weakref
from typing import Any
from urllib.parse import parse_qsl

from simshard.serve.engine.answer_job import FEW_HITS
from simshard.serve.engine.cache_keys import entity_tag, plain_text
from simshard.serve.engine.encode import encode_plain
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import Table
from simshard.serve.http.responses import JSON_TYPE, AsgiApp, Headers, Receive, Scope, Send
from simshard.serve.schema.requests import SimilarRequest
from simshard.shards.filters import Mask
from simshard.shards.hidden import Hidden
from simshard.shards.search import best_of
from simshard.shards.transport import LocalTransport

_PATH = re.compile(r"/v1/(?:items/(.+)/)?similar")
_NUMBER = re.compile(r"0|[1-9][0-9]{0,2}")
_LIMIT: int = SimilarRequest.model_fields["limit"].default
_FEW_SKIPPED = 200
_OBJECTS = 500  # bytes that an answer takes in memory beside its body and its target


class _Served:
    """What answers depend on beside the target, and have in common; no snapshot is held open by it.

    number: tells it from those before it. key: how keys of questions to it begin. selects: whether `mask`, bool (N,),
    of the rows that can be hits, None: all, is known.
    """

    def __init__(
        self, number: int, table: Table, hidden: Hidden, key: bytes, cache_control: tuple[bytes, bytes]
    ) -> None:
        self.key, self.number, self.table, self.hidden = key, number, weakref.ref(table), hidden
        self.headers: Headers = [JSON_TYPE, cache_control, (b"x-snapshot", table.name.encode())]
        self.selects = False
        self.mask: Mask | None = None


class FastPath:
    """Before `app`: answers GET .../similar with `limit` and `offset` alone where that takes microseconds.

    That is where the hits are among the best stored beside a row in this process, or the answer is in memory, by the
    target as it was sent. All else, faults as well, goes on to `app`, which would answer the same.
    """

    def __init__(self, app: AsgiApp, service: Service, cache_control: str) -> None:
        self.app, self._service = app, service
        self._cache_control = (b"cache-control", cache_control.encode())
        self._memory = service.cache.memory
        self._through_redis = service.uses_redis("similar")
        self._served: _Served | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        answer = self._answer(scope) if scope["type"] == "http" and scope["method"] == "GET" else None
        if answer is None:
            await self.app(scope, receive, send)
            return
        body, headers = answer
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _answer(self, scope: Scope) -> tuple[bytes, Headers] | None:
        begun = time.perf_counter()
        table = self._service.table
        if table is None or self._through_redis:
            return None
        served = self._serving(table)
        for name, _ in scope["headers"]:
            if name == b"if-none-match":
                return None
        target = scope.get("root_path", ""), scope["path"], scope["query_string"]
        kept: tuple[int, bytes, Headers] | None = self._memory.get(target)
        if kept is not None and kept[0] == served.number:
            _, body, own = kept
            headers = [*served.headers, *own, (b"x-cache", b"memory")]
        else:
            computed = self._compute(scope, table, served)
            if computed is None:
                return None
            body, etag, shard = computed
            own = [(b"content-length", b"%d" % len(body)), (b"etag", etag.encode())]
            if kept is not None:
                self._memory.drop(target)
            size = len(body) + sum(map(len, target)) + _OBJECTS
            self._memory.put(target, (served.number, body, tuple(own)), size)
            headers = [*served.headers, *own, (b"x-cache", b"miss"), (b"x-shards", b"%d" % shard)]
        headers.append((b"server-timing", b"total;dur=%.3f" % ((time.perf_counter() - begun) * 1e3)))
        return body, headers

    def _serving(self, table: Table) -> _Served:
        hidden, served = self._service.hidden, self._served
        if served is None or served.table() is not table or served.hidden is not hidden:
            number = 0 if served is None else served.number + 1
            key = self._service.key(table, hidden, "")
            served = _Served(number, table, hidden, key, self._cache_control)
            self._served = served
        return served

    def _compute(self, scope: Scope, table: Table, served: _Served) -> tuple[bytes, str, int] | None:
        """Body, entity tag and shard."""
        plain = _plain_question(scope)
        row = None if plain is None else table.items.row(plain[0])
        if plain is None or row is None:
            return None
        if not served.selects:
            try:
                selection = self._service.filters.known(table, served.hidden)
            except KeyError:
                return None
            served.selects, served.mask = True, None if selection is None else selection.mask
        _, limit, offset = plain
        shard = table.snapshot.manifest.owner(row)
        way = table.transports[shard]
        hits = best_of(way.reader, row, limit, offset, served.mask) if isinstance(way, LocalTransport) else None
        if hits is None:
            return None
        tag = entity_tag(served.key + plain_text(row, limit, offset, True).encode())
        return encode_plain(table, *hits), tag, shard


def _plain_question(scope: Scope) -> tuple[str, int, int] | None:
    """Id, limit and offset of a request for nothing else, and for few hits."""
    path: str = scope["path"].removeprefix(scope.get("root_path", ""))
    target = _PATH.fullmatch(path)
    if target is None:
        return None
    query = scope["query_string"]
    if not query:
        return None if target[1] is None else (target[1], _LIMIT, 0)
    given: dict[str, Any] = {} if target[1] is None else {"id": target[1]}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name in given or name not in ("id", "limit", "offset") or (name != "id" and not _NUMBER.fullmatch(value)):
            return None
        given[name] = value
    limit, offset = int(given.get("limit", _LIMIT)), int(given.get("offset", 0))
    few = 1 <= limit <= FEW_HITS and offset <= _FEW_SKIPPED
    return (given["id"], limit, offset) if given.get("id") and few else None
