"""What every store is, wherever it lies: immutable snapshots, and small files that are replaced as a whole.

`current.json` points to the active snapshot. Changes of it, as of `hidden.json`, go through `change`, so that of two at
the same time none is lost.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Hashable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import NamedTuple

import orjson

from simshard.shards.errors import SimshardError, SnapshotNotFound, StoreError
from simshard.shards.manifest import NAME, FileInfo, Manifest

CURRENT = "current.json"
KEPT_PREVIOUS = 20


@dataclass(frozen=True)
class Pointer:
    """What `current.json` says: the active snapshot, and those active before it, newest first."""

    active: str | None
    previous: tuple[str, ...] = ()

    def kept(self, keep: int, there: Collection[str]) -> set[str | None]:
        """What `prune` leaves: the active snapshot, and the first `keep` of those before it that are still there."""
        return {self.active, *[name for name in self.previous if name in there][:keep]}


class Stored(NamedTuple):
    """A small file of a store: what it holds, and what tells this version of it from any other."""

    content: bytes
    version: Hashable


class SnapshotStore(ABC):
    """A store; `place` is how messages call it. Every method raises StoreError where the store cannot be reached."""

    place: str

    @abstractmethod
    def read(self, name: str, known: Stored | None = None) -> Stored | None:
        """A small file of the store; None where there is none. `known` itself, while the file is still that."""

    @abstractmethod
    def change(self, name: str, make: Callable[[bytes | None], bytes]) -> None:
        """Replace a small file by what `make` gives for what it holds now, atomically and for good.

        `make` may be called again, where the file changed meanwhile; what it raises leaves the file as it is.
        """

    @abstractmethod
    def names(self) -> list[str]:
        """All published snapshots, oldest first."""

    @abstractmethod
    def manifest(self, name: str | None = None) -> Manifest:
        """The manifest of a snapshot (None: the active one). Raises SnapshotNotFound and CorruptFile."""

    @abstractmethod
    def read_range(self, name: str, info: FileInfo, start: int, stop: int) -> bytes:
        """Bytes of a snapshot's file. Raises CorruptFile where they are not there."""

    @abstractmethod
    def check_file(self, name: str, info: FileInfo) -> None:
        """Return if a snapshot's file is what its manifest says. Raises CorruptFile."""

    @abstractmethod
    def prune(self, keep: int, older_than: timedelta | None = None) -> tuple[list[str], list[str]]:
        """Remove all snapshots but the active one, the `keep` active before it, those in use, and younger ones.

        Two lists of names: removed, and left because somebody has them in use, or they are not `older_than` (None: as
        old as is right where nobody's reading can be seen).
        """

    def pointer(self) -> Pointer:
        """The active and previous snapshots; empty where nothing was activated yet. Raises StoreError."""
        stored = self.read(CURRENT)
        return self.parse(None if stored is None else stored.content)

    def resolve(self, name: str | None = None) -> str:
        """The snapshot's full name, or the active one's for None. Raises SnapshotNotFound, naming what there is."""
        if name is None:
            name = self.pointer().active
            if name is None:
                raise SnapshotNotFound(f"{self.place}: no active snapshot; build one with `simshard ingest`")
        if name not in self.names():
            raise SnapshotNotFound(
                f"{self.place}: no snapshot {name!r}; `simshard snapshots list` names those there are"
            )
        return name

    def verify(self, name: str) -> list[str]:
        """Check every file of a snapshot against its manifest; one sentence for each fault, none if it is sound."""
        try:
            manifest = self.manifest(self.resolve(name))
        except SimshardError as error:
            return [str(error)]
        faults = []
        for info in manifest.files:
            try:
                self.check_file(name, info)
            except SimshardError as error:
                faults.append(str(error))
        return faults

    def activate(self, name: str) -> Pointer:
        """Make a snapshot the active one; the pointer afterwards."""
        name = self.resolve(name)
        self.manifest(name)

        def activated(content: bytes | None) -> Pointer:
            try:
                old = self.parse(content)
            except StoreError:
                old = Pointer(None)  # a damaged pointer is replaced by a good one
            history = [*([old.active] if old.active else []), *old.previous]
            return Pointer(name, tuple(previous for previous in history if previous != name))

        return self._point(activated)

    def rollback(self) -> Pointer:
        """Make the newest previous snapshot that is still there the active one; the pointer afterwards."""

        def rolled_back(content: bytes | None) -> Pointer:
            there = set(self.names())
            previous = [name for name in self.parse(content).previous if name in there]
            if not previous:
                raise SnapshotNotFound(f"{self.place}: no previous snapshot to roll back to")
            self.manifest(previous[0])
            return Pointer(previous[0], tuple(previous[1:]))

        return self._point(rolled_back)

    def forget(self, names: Sequence[str]) -> None:
        """Let the pointer name none of these as previous ones, which are gone."""

        def without(content: bytes | None) -> Pointer:
            old = self.parse(content)
            return Pointer(old.active, tuple(name for name in old.previous if name not in names))

        if names and self.pointer().active:
            self._point(without)

    def _point(self, make: Callable[[bytes | None], Pointer]) -> Pointer:
        made: list[Pointer] = []

        def encode(content: bytes | None) -> bytes:
            pointer = make(content)
            made[:] = [Pointer(pointer.active, pointer.previous[:KEPT_PREVIOUS])]
            return orjson.dumps({"active": pointer.active, "previous": made[0].previous})

        self.change(CURRENT, encode)
        return made[0]

    def parse(self, content: bytes | None) -> Pointer:
        """What the content of `current.json` says; None: there is none. Raises StoreError."""
        if content is None:
            return Pointer(None)
        try:
            found = orjson.loads(content)
            names = [found["active"], *found["previous"]]
            if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
                raise ValueError("a name in it is not a snapshot's name")
        except (ValueError, KeyError, TypeError) as error:
            path = f"{self.place}/{CURRENT}"
            raise StoreError(f"{path}: not a valid pointer ({error}); name a snapshot with `activate`") from error
        return Pointer(names[0], tuple(names[1:]))
