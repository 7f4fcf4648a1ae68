"""What a store holds, as GET /v1/snapshots and `simshard snapshots list` tell it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from simshard.shards.errors import SimshardError
from simshard.shards.snapshot_store import SnapshotStore


def list_snapshots(store: SnapshotStore, serving: str | None, opened: Sequence[str] = ()) -> dict[str, Any]:
    """The body of GET /v1/snapshots; `opened`: the snapshots that a server can answer from."""
    pointer = store.pointer()
    rows = []
    for name in store.names():
        try:
            manifest = store.manifest(name)
        except SimshardError:
            continue  # damaged or just pruned: `simshard snapshots verify` says more
        rows.append(
            {
                "name": name,
                "created": manifest.created,
                "encoding": manifest.encoding,
                "items": manifest.items,
                "pairs": manifest.pairs,
                "directed": manifest.directed,
                "shards": len(manifest.shards),
                "bytes": manifest.total_bytes,
                "active": name == pointer.active,
            }
        )
    return {
        "active": pointer.active,
        "serving": serving,
        "open": list(opened),
        "previous": list(pointer.previous),
        "snapshots": rows,
    }
