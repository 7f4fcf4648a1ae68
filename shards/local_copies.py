"""A bucket's store on this machine: a store in a folder that holds the snapshots that are used here, and follows.

Mapped files are the only ones that queries read, so a node that holds a snapshot needs the bucket no more.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import orjson

from simshard.shards.bucket import is_uri
from simshard.shards.bucket_store import BucketStore
from simshard.shards.copies import fetch
from simshard.shards.errors import SimshardError, StoreError
from simshard.shards.hidden import HIDDEN
from simshard.shards.manifest import FileInfo, Manifest
from simshard.shards.progress import Progress, Quiet
from simshard.shards.snapshot_store import CURRENT, SnapshotStore, Stored
from simshard.shards.store import Store

Log = logging.getLogger("simshard.copies")

CACHE_VARIABLE = "SIMSHARD_CACHE_DIR"
_PERIOD = 0.5
_AFTER_FAULT = 5.0


def open_store(store: str) -> SnapshotStore:
    """The store at a path or a URI. Raises StoreError for a URI that names none."""
    return BucketStore(store) if is_uri(store) else Store(store)


def cache_folder() -> Path:
    """Where copies lie unless that is said: SIMSHARD_CACHE_DIR, or simshard in the user's folder for caches."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given)
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "simshard"


@dataclass(frozen=True)
class Location:
    """Where a store is: a path, or a URI, whose snapshots lie in `cache_dir` in up to `cache_size` bytes.

    cache_dir: None: `cache_folder`; cache_size: None: as many as the disk has.
    """

    store: str
    cache_dir: str | None = None
    cache_size: int | None = None

    @property
    def folder(self) -> str:
        """The folder that queries read: the store's own, or that of its copies."""
        if not is_uri(self.store):
            return self.store
        digest = hashlib.blake2b(self.store.rstrip("/").encode(), digest_size=8).hexdigest()
        return str(Path(self.cache_dir or cache_folder()).absolute() / digest)

    def copies(self) -> LocalCopies | None:
        """The copies of a URI; None for a path. Raises StoreError."""
        return LocalCopies(self) if is_uri(self.store) else None


class LocalCopies(SnapshotStore):
    """The store at a URI: read from its copies here, changed in the bucket, and then here."""

    def __init__(self, location: Location) -> None:
        self.remote = BucketStore(location.store)
        self.place = self.remote.place
        self.local = Store(location.folder)
        self._limit = location.cache_size
        self._known: dict[str, Stored | None] = {}

    def read(self, name: str, known: Stored | None = None) -> Stored | None:
        return self.local.read(name, known)

    def change(self, name: str, make: Callable[[bytes | None], bytes]) -> None:
        self.remote.change(name, make)
        if name != CURRENT:  # a snapshot has to be brought first
            self._follow(name)

    def names(self) -> list[str]:
        return self.remote.names()

    def manifest(self, name: str | None = None) -> Manifest:
        return self.remote.manifest(name)

    def read_range(self, name: str, info: FileInfo, start: int, stop: int) -> bytes:
        return self.local.read_range(name, info, start, stop)

    def check_file(self, name: str, info: FileInfo) -> None:
        self.local.check_file(name, info)

    def prune(self, keep: int, older_than: timedelta | None = None) -> tuple[list[str], list[str]]:
        return self.remote.prune(keep, older_than)

    def bring(self, name: str | None, progress: Progress) -> str:
        """Bring a snapshot (None: the active one) here, and what is hidden; its name. Raises StoreError."""
        name = self.remote.resolve(name)
        if name not in self.local.names():
            self._make_room(self.remote.manifest(name))
        fetch(self.remote, name, self.local, progress)
        os.utime(self.local.snapshots / name)  # which tells when it was last used
        self._follow(HIDDEN)
        return name

    def follow(self, progress: Progress) -> None:
        """Be as the bucket is: what is hidden, then the active snapshot, once it is here. Raises StoreError."""
        self._follow(HIDDEN)
        stored = self.remote.read(CURRENT, self._known.get(CURRENT))
        if stored is None or stored is self._known.get(CURRENT):
            return
        active = self.remote.parse(stored.content).active
        self.bring(active, progress)
        self._write(CURRENT, stored.content)
        self._known[CURRENT] = stored

    def _follow(self, name: str) -> None:
        stored = self.remote.read(name, self._known.get(name))
        if stored is not None and stored is not self._known.get(name):
            self._write(name, stored.content)
            self._known[name] = stored

    def _write(self, name: str, content: bytes) -> None:
        """Keep a small file here, too, unless another process has brought a newer list of hidden items meanwhile."""

        def newer(old: bytes | None) -> bytes:
            if name != HIDDEN or old is None:
                return content
            return max(content, old, key=lambda each: int(orjson.loads(each).get("version", 0)))

        self.local.root.mkdir(parents=True, exist_ok=True)
        self.local.change(name, newer)

    def _make_room(self, manifest: Manifest) -> None:
        """Drop copies that were used least recently, but for those that somebody has open. Raises StoreError."""
        if self._limit is None:
            return
        if manifest.total_bytes > self._limit:
            raise StoreError(
                f"{self.local.place}: snapshot {manifest.name} has {manifest.total_bytes:,} bytes, the copies may take "
                f"{self._limit:,}; allow more with --cache-size"
            )
        sizes = {name: self.local.manifest(name).total_bytes for name in self.local.names()}
        oldest = sorted(sizes, key=lambda name: (self.local.snapshots / name).stat().st_mtime)
        for name in oldest:
            if sum(sizes.values()) + manifest.total_bytes <= self._limit:
                return
            if self.local.remove(name):
                del sizes[name]
        used = sum(sizes.values())
        if used + manifest.total_bytes > self._limit:
            raise StoreError(
                f"{self.local.place}: copies that are open take {used:,} bytes, snapshot {manifest.name} has "
                f"{manifest.total_bytes:,}, and they may take {self._limit:,}; allow more with --cache-size"
            )


class Follower:
    """A thread that follows a bucket; `problem` is why it does not just now, None while it does."""

    def __init__(self, copies: LocalCopies) -> None:
        self.place = copies.place
        self._copies = copies
        self.problem: str | None = None
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="follower")
        self._thread.start()

    def _run(self) -> None:
        pause = 0.0
        while not self._ended.wait(pause):
            try:
                self._copies.follow(Quiet())
                self.problem, pause = None, _PERIOD
            except (SimshardError, OSError) as error:  # what is here goes on being served
                if self.problem != str(error):
                    Log.warning("%s", error)
                self.problem, pause = str(error), _AFTER_FAULT

    def close(self) -> None:
        """Follow no more."""
        self._ended.set()
