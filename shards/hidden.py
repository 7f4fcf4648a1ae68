"""Items that an operator hid: a small list of ids beside the snapshots, `hidden.json`, that holds for all of them.

`{"format": 1, "version": V, "items": [{"id": ID, "hidden": TIME}, ...]}`, replaced atomically; `version` grows with
every change. It names ids, not rows, so it holds for every snapshot that the store will ever have.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property

import orjson

from simshard.shards.errors import StoreError, UnknownItem
from simshard.shards.items import Items
from simshard.shards.snapshot_store import SnapshotStore, Stored

HIDDEN = "hidden.json"
FORMAT = 1
MAX_HIDDEN = 100_000


@dataclass(frozen=True)
class Hidden:
    """Hidden ids, each with the time (UTC) since when; `version` counts the changes; `file` is what was read."""

    version: int = 0
    items: tuple[tuple[int | str, str], ...] = ()
    file: Stored | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """A name for this set of ids, however it came about: part of cache keys and ETags. Empty for none."""
        if not self.items:
            return ""
        ids = sorted(repr(id_) for id_, _ in self.items)
        return hashlib.blake2b("\n".join(ids).encode(), digest_size=8).hexdigest()

    @cached_property
    def _texts(self) -> frozenset[str]:
        return frozenset(str(id_) for id_, _ in self.items)

    def __contains__(self, id_: object) -> bool:
        return str(id_) in self._texts  # a rebuild can make text of integers

    def to_json(self) -> bytes:
        """The list of hidden items as written to disk."""
        items = [{"id": id_, "hidden": since} for id_, since in self.items]
        return orjson.dumps({"format": FORMAT, "version": self.version, "items": items}) + b"\n"


def read_hidden(store: SnapshotStore, known: Hidden | None = None) -> Hidden:
    """The list of hidden items as it stands; empty where there is none. Raises StoreError for a file that is none.

    known: one read before, which is answered without reading again while the file is the same.
    """
    stored = store.read(HIDDEN, None if known is None else known.file)
    if stored is None:
        return known if known is not None and known == Hidden() else Hidden()
    return known if known is not None and known.file is stored else _parse(store, stored)


def _parse(store: SnapshotStore, stored: Stored) -> Hidden:
    try:
        content = orjson.loads(stored.content)
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']!r} is unknown to this version, which reads format {FORMAT}")
        items = tuple((each["id"], each["hidden"]) for each in content["items"])
        if not all(isinstance(id_, int | str) and isinstance(since, str) for id_, since in items):
            raise ValueError("an id in it is neither an integer nor text")
        return Hidden(int(content["version"]), items, stored)
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(
            f"{store.place}/{HIDDEN}: not a list of hidden items ({error}); repair it, or remove it to hide none"
        ) from error


def change_hidden(store: SnapshotStore, id_: int | str, hide: bool) -> Hidden:
    """Hide an item, or show it again, in every snapshot; the list afterwards. Asking twice changes nothing more.

    Raises StoreError where the store cannot be written, or more than MAX_HIDDEN items would be hidden.
    """
    found: list[Hidden] = []

    def changed(content: bytes | None) -> bytes:
        old = Hidden() if content is None else _parse(store, Stored(content, None))
        found[:] = [old]
        if (id_ in old) == hide:
            return old.to_json() if content is None else content
        items = tuple(item for item in old.items if str(item[0]) != str(id_))
        if hide:
            if len(items) >= MAX_HIDDEN:
                raise StoreError(
                    f"{store.place}: {MAX_HIDDEN:,} items are hidden, which is the most; build without them"
                )
            items += ((id_, datetime.now(UTC).isoformat(timespec="seconds")),)
        found[:] = [Hidden(old.version + 1, items)]
        return found[0].to_json()

    if (id_ in read_hidden(store)) != hide:
        store.change(HIDDEN, changed)
        return found[0]
    return read_hidden(store)


def hide_item(store: SnapshotStore, items: Items, text: int | str, hide: bool) -> tuple[int | str, Hidden]:
    """Hide an item of a snapshot, or show one again that may be gone from it; its id, and the list afterwards.

    Raises UnknownItem, and StoreError as `change_hidden` does.
    """
    row = items.row(text)
    id_ = text if row is None else items.ids[row].as_py()
    if row is None and (hide or id_ not in read_hidden(store)):
        raise UnknownItem(f"item {text!r} is not in the snapshot" + ("" if hide else ", nor is it hidden"))
    return id_, change_hidden(store, id_, hide)
