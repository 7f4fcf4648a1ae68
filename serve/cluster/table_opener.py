"""The table that a replica answers from: of each shard, a map of its file or calls to its actor."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any

from simshard.serve.cluster.rounds import State
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import Table, open_table, with_image
from simshard.shards.format import ShardReader
from simshard.shards.hidden import read_hidden
from simshard.shards.store import Snapshot, Store
from simshard.shards.transport import ActorTransport, LocalTransport, Transport

Log = logging.getLogger("simshard.table_opener")

_WARM = 256 << 20  # bytes of each shard that are asked for when it is opened


@dataclass(frozen=True)
class TableOpener:
    """Opens what the supervisor's state names, for a service.

    node: the Ray node of this process. actor_of: shard -> the handle of its actor. maps: whether the files of actors on
    this node are mapped, or else all shards called. shard_timeout: seconds for a call. image: the attribute that holds
    the addresses of pictures.
    """

    service: Service
    store: Store
    pool: Executor
    node: str
    actor_of: Callable[[int], Any]
    maps: bool
    shard_timeout: float
    image: str | None

    def open(self, state: State) -> Table:
        """The table, which the service can serve. Raises SimshardError where it cannot be opened or served."""
        snapshot = Snapshot(self.store, state.snapshot)
        ways: list[Transport] = []
        for shard, held in enumerate(state.held):
            if self.maps and held is not None and held.here(self.node):
                reader = ShardReader(snapshot.folder, snapshot.manifest, shard)
                if snapshot.name not in self.service.names:
                    reader.warm(_WARM)
                ways.append(LocalTransport(reader, self.pool))
            else:
                ways.append(ActorTransport(self.actor_of(shard), snapshot.name, shard, self.shard_timeout))
        table = open_table(snapshot, ways)
        self.service.check(table)
        if self.service.table is None:
            self.service.hide(read_hidden(self.store))
        return self._with_image(table)  # last: what fails before is tried again and again

    def _with_image(self, table: Table) -> Table:
        if table.name in self.service.names:  # its actors moved: the pictures are where they were
            known = self.service.opened(table.name)
            return replace(table, image=known.image, image_origins=known.image_origins)
        opened = with_image(table, self.image)
        if opened.image != self.image:
            Log.warning(
                "image %r: the items of snapshot %s have no text attribute of that name", self.image, table.name
            )
        return opened
