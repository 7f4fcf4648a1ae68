"""ShardActor: holds one shard, of every open snapshot, for the routers of other nodes and as the verdict for this one.

A plain class; `ray.remote` is put on by the supervisor.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray

from simshard.shards import search
from simshard.shards.errors import SnapshotClosed
from simshard.shards.format import ShardReader
from simshard.shards.manifest import verify_file
from simshard.shards.search import METHODS
from simshard.shards.store import Snapshot, Store

CONTROL = "control"  # the concurrency group of open, close and held: never behind queries


@dataclass(frozen=True)
class Held:
    """A shard file that an actor has verified: on which node, and what tells it from any other file there.

    node: as Ray names it; host: as people do.
    """

    node: str
    path: str
    inode: int
    size: int
    modified_ns: int
    host: str | None = None

    def here(self, node: str) -> bool:
        """Whether `path`, seen from this node, is that very file, so that its verdict holds here."""
        if node != self.node:
            return False
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        return (status.st_ino, status.st_size, status.st_mtime_ns) == (self.inode, self.size, self.modified_ns)


class ShardActor:
    """One slot: shard `slot` of each open snapshot of one store."""

    def __init__(self, store: str, slot: int) -> None:
        self._store = Store(store)
        self._slot = slot
        self._node = ray.get_runtime_context().get_node_id()
        self._host = socket.gethostname()
        self._open: dict[str, tuple[Snapshot, ShardReader | None, Held | None]] = {}

    def open(self, name: str) -> Held | None:
        """Verify and map this slot's shard of a snapshot (None: it has fewer shards). Raises StoreError."""
        if name not in self._open:
            snapshot = Snapshot(self._store, name)
            if self._slot < len(snapshot.manifest.shards):
                info = snapshot.manifest.shards[self._slot]
                path = snapshot.folder / info.file
                verify_file(snapshot.folder, info)
                status = os.stat(path)
                file = (str(path), status.st_ino, status.st_size, status.st_mtime_ns)
                held = Held(self._node, *file, host=self._host)
                self._open[name] = (snapshot, ShardReader(snapshot.folder, snapshot.manifest, self._slot), held)
            else:
                self._open[name] = (snapshot, None, None)
        return self._open[name][2]

    def close(self, name: str) -> None:
        """Let go of a snapshot."""
        self._open.pop(name, None)

    def held(self) -> dict[str, Held | None]:
        """The open snapshots."""
        return {name: held for name, (_, _, held) in list(self._open.items())}

    def ask(self, name: str, calls: Sequence[tuple[str, tuple[Any, ...]]]) -> list[Any]:
        """The answer to each call, a method of `simshard.shards.search` with its arguments. Raises SnapshotClosed."""
        _, reader, _ = self._open.get(name, (None, None, None))
        if reader is None:
            raise SnapshotClosed(f"shard {self._slot} of snapshot {name} is not open")
        unknown = {method for method, _ in calls}.difference(METHODS)
        if unknown:
            raise ValueError(f"no such method: {unknown}")
        return [getattr(search, method)(reader, *arguments) for method, arguments in calls]
