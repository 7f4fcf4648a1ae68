"""What a replica answers from: the table that is served, older ones that are still open, and the hidden items."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from simshard.serve.engine.table import Table
from simshard.shards.errors import NotReady, SnapshotGone
from simshard.shards.hidden import Hidden
from simshard.shards.manifest import NAME

_ADOPTION_TRIES = 24  # every 50 ms: within that time every replica follows a switch


class OpenTables:
    """Each request keeps the table, and the list of hidden items, that it began with."""

    def __init__(self) -> None:
        self._table: Table | None = None
        self._older: Mapping[str, Table] = {}
        self._hidden = Hidden()

    @property
    def table(self) -> Table | None:
        """The table that is served; None before the first."""
        return self._table

    @property
    def hidden(self) -> Hidden:
        """The items that are hidden now."""
        return self._hidden

    @property
    def names(self) -> list[str]:
        """The snapshots that can be asked, the one served first."""
        return [table.name for table in ([self._table] if self._table else []) + list(self._older.values())]

    def serve(self, table: Table) -> Table | None:
        """Serve this table from now on; the one that it replaces, if any, which can still be asked until `close`."""
        replaced = self._table
        older = {name: each for name, each in self._older.items() if name != table.name}
        if replaced is not None and replaced.name != table.name:
            older[replaced.name] = replaced
        self._older = older
        self._table = table
        return replaced

    def close(self, table: Table) -> None:
        """Let go of a table."""
        self._older = {name: each for name, each in self._older.items() if each is not table}
        self._table = None if self._table is table else self._table

    def hide(self, hidden: Hidden) -> None:
        """Answer without these items from now on, and with all others."""
        self._hidden = hidden

    def opened(self, name: str | None = None) -> Table:
        """The table for one request: the one served, or of the snapshot named. Raises NotReady and SnapshotGone."""
        table = self._table
        if table is None:
            raise NotReady("no snapshot is open yet; see /healthz")
        if name is None or name == table.name:
            return table
        if name not in self._older:
            raise SnapshotGone(f"snapshot {name} is not open here, or no longer; {table.name} is served now")
        return self._older[name]

    async def adopted(self, name: str | None) -> None:
        """Wait a moment for a snapshot that another replica may answer from already."""
        for _ in range(_ADOPTION_TRIES):
            if name is None or not NAME.fullmatch(name) or name in self.names:
                return
            await asyncio.sleep(0.05)
