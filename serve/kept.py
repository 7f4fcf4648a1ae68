"""GET answers by the target as it was sent: asked again, they need no look at what the question means."""

from __future__ import annotations

import time
import weakref
from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.responses import Response

from simshard.serve.asked import Asked, Reply
from simshard.serve.cache import Lru
from simshard.serve.router import Table
from simshard.serve.service import Service
from simshard.shards.hidden import Hidden

_OBJECTS = 1200  # bytes that an entry takes beside its body


class Encoded(Response):
    """A JSON body with these headers, without what Starlette looks at for other responses."""

    def __init__(self, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        self.status_code = 200
        self.background = None
        self.body = body
        self.raw_headers = headers


class _Entry(NamedTuple):
    """What an answer is of, and the answer; the table is not held open by it."""

    table: weakref.ref[Table]
    hidden: Hidden
    body: bytes
    headers: list[tuple[bytes, bytes]]


class Kept:
    """The most recently asked of those answers that were in memory when they were asked a second time."""

    def __init__(self, service: Service, capacity: int) -> None:
        self._service = service
        self._entries: Lru[_Entry] = Lru(capacity)

    def get(self, scope: Mapping[str, Any]) -> Response | None:
        """The answer to this very target, if it is of what is served, and hidden, now, and the caller has none yet."""
        begun = time.perf_counter()
        entry = self._entries.get((scope["path"], scope["query_string"]))
        if entry is None or not self._service.current(entry.table(), entry.hidden):
            return None
        if any(name == b"if-none-match" for name, _ in scope["headers"]):
            return None
        took = b"total;dur=%.3f" % ((time.perf_counter() - begun) * 1e3)
        return Encoded(entry.body, [*entry.headers, (b"server-timing", took)])

    def put(self, scope: Mapping[str, Any], asked: Asked, reply: Reply, headers: list[tuple[bytes, bytes]]) -> None:
        """Keep an answer that came out of memory with its headers; one that is out of date gives way."""
        if reply.outcome != "memory" or not self._service.current(asked.table, asked.hidden):
            return
        target = (scope["path"], scope["query_string"])
        size = len(target[0]) + len(target[1]) + len(reply.body) + _OBJECTS
        kept = [(name, value) for name, value in headers if name != b"server-timing"]
        self._entries.drop(target)
        self._entries.put(target, _Entry(weakref.ref(asked.table), asked.hidden, reply.body, kept), size)
