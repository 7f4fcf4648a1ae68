"""An open snapshot: its items, and the ways to its shards."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from simshard.shards.attributes import image_column, origins_of
from simshard.shards.format import ShardReader
from simshard.shards.items import Items
from simshard.shards.manifest import verify_file
from simshard.shards.payloads import Payloads
from simshard.shards.store import Snapshot
from simshard.shards.titles import Titles
from simshard.shards.transport import LocalTransport, Transport


@dataclass(frozen=True)
class Table:
    """One open snapshot: its items and, for each shard, the way to it. A request keeps the table it began with.

    titles: the index for title search; None where no item has a title. image: the attribute that holds the address of
    each item's picture, where there is one; image_origins: where the pictures are, as `origins_of` tells.
    """

    snapshot: Snapshot
    items: Items
    titles: Titles | None
    transports: tuple[Transport, ...]
    image: str | None = None
    image_origins: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The snapshot's name."""
        return self.snapshot.name

    @property
    def remote(self) -> bool:
        """Whether any shard is reached by a call."""
        return any(transport.remote for transport in self.transports)


def open_table(snapshot: Snapshot, transports: Sequence[Transport]) -> Table:
    """A table over these ways to the snapshot's shards, without pictures."""
    titles = Titles(snapshot.folder) if snapshot.manifest.titles_file else None
    payloads = Payloads(snapshot.folder) if snapshot.manifest.payloads_file else None
    return Table(snapshot, Items(snapshot.folder, payloads), titles, tuple(transports))


def with_image(table: Table, name: str | None) -> Table:
    """The table with its text attribute of that name as pictures; as it is where it has none. Reads every address."""
    pictures = image_column(table.items, name)
    return table if pictures is None else replace(table, image=name, image_origins=origins_of(pictures))


def local_table(snapshot: Snapshot, pool: Executor, image: str | None = None) -> Table:
    """A table that reads every shard in this process, all files verified. Raises CorruptFile."""
    for info in snapshot.manifest.files:
        verify_file(snapshot.folder, info)
    shards = range(len(snapshot.manifest.shards))
    readers = [ShardReader(snapshot.folder, snapshot.manifest, shard) for shard in shards]
    return with_image(open_table(snapshot, [LocalTransport(reader, pool) for reader in readers]), image)
