"""A folder of immutable snapshots and a pointer to the active one.

Publishing is: write, fsync, manifest, fsync, rename out of staging, then replace `current.json`; the folder is fsynced
after every rename. Readers hold a shared flock on a snapshot's manifest and builders one on their staging folder, so
`prune` and the clean-up of killed builds leave alone whatever is in use.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import orjson

from simshard.shards.errors import CorruptFile, SimshardError, SnapshotNotFound, StoreError
from simshard.shards.manifest import MANIFEST, NAME, Manifest, name_after, read_manifest, verify_file

CURRENT = "current.json"
KEPT_PREVIOUS = 20


@dataclass(frozen=True)
class Pointer:
    """What `current.json` says: the active snapshot, and those active before it, newest first."""

    active: str | None
    previous: tuple[str, ...] = ()


class Staging:
    """A snapshot being built: a locked folder, invisible to readers until `publish`."""

    def __init__(self, store: Store, name: str, folder: Path, lock: int) -> None:
        self.store, self.name, self.folder, self._lock = store, name, folder, lock

    def publish(self, manifest: Manifest) -> None:
        """Make the folder a snapshot, all or nothing; its other files must already be forced to disk."""
        with open(self.folder / MANIFEST, "xb") as file:
            file.write(manifest.to_json())
            file.flush()
            os.fsync(file.fileno())
        force(self.folder)
        os.rename(self.folder, self.store.snapshots / self.name)
        force(self.store.snapshots)
        force(self.folder.parent)

    def close(self) -> None:
        """Remove what was not published and give the lock up."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


class Store:
    """A store on a local or shared file system. clock: the time, which names of snapshots begin with."""

    def __init__(self, root: str | Path, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.root = Path(root)
        self._clock = clock
        self.snapshots = self.root / "snapshots"
        self.staging = self.root / "staging"

    @contextmanager
    def stage(self) -> Iterator[Staging]:
        """A new staging folder, removed at the end unless published. Removes those of killed builds first."""
        try:
            for folder in (self.root, self.snapshots, self.staging):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{error.filename}: cannot make the store's folder ({error.strerror})") from error
        self.clean()
        lock = None
        while lock is None:
            name = name_after(self._clock(), max(self.names(), default=None))
            folder = self.staging / name
            with suppress(FileExistsError):
                folder.mkdir()
                lock = _lock_folder(folder)
        staging = Staging(self, name, folder, lock)
        try:
            yield staging
        finally:
            staging.close()

    def clean(self) -> list[str]:
        """Remove the staging folders that no living build holds; their names."""
        removed = []
        for folder in sorted(self.staging.iterdir()) if self.staging.is_dir() else []:
            lock = _lock_folder(folder)
            if lock is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(lock)
                removed.append(folder.name)
        return removed

    def pointer(self) -> Pointer:
        """The active and previous snapshots; empty where nothing was activated yet. Raises StoreError."""
        path = self.root / CURRENT
        try:
            content = orjson.loads(path.read_bytes())
            names = [content["active"], *content["previous"]]
            if not all(isinstance(name, str) and NAME.fullmatch(name) for name in names):
                raise ValueError("a name in it is not a snapshot's name")
        except FileNotFoundError:
            return Pointer(None)
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path}: not a valid pointer ({error}); name a snapshot with `activate`") from error
        return Pointer(names[0], tuple(names[1:]))

    def names(self) -> list[str]:
        """All published snapshots, oldest first."""
        if not self.snapshots.is_dir():
            return []
        return sorted(entry.name for entry in self.snapshots.iterdir() if NAME.fullmatch(entry.name))

    def resolve(self, name: str | None = None) -> str:
        """The snapshot's full name, or the active one's for None. Raises SnapshotNotFound, naming what there is."""
        if name is None:
            name = self.pointer().active
            if name is None:
                raise SnapshotNotFound(f"{self.root}: no active snapshot; build one with `simshard ingest`")
        if name not in self.names():
            raise SnapshotNotFound(
                f"{self.root}: no snapshot {name!r}; `simshard snapshots list` names those there are"
            )
        return name

    def manifest(self, name: str | None = None) -> Manifest:
        """The manifest of a snapshot (None: the active one)."""
        return read_manifest(self.snapshots / self.resolve(name))

    @contextmanager
    def locked(self) -> Iterator[None]:
        """The store's own files change by one process at a time. Raises StoreError where there is no store."""
        try:
            lock = os.open(self.root, os.O_RDONLY)
        except OSError as error:
            raise StoreError(f"{self.root}: no store there ({error.strerror})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def activate(self, name: str) -> Pointer:
        """Make a snapshot the active one; the pointer afterwards."""
        name = self.resolve(name)
        read_manifest(self.snapshots / name)
        with self.locked():
            try:
                old = self.pointer()
            except StoreError:
                old = Pointer(None)  # a damaged pointer is replaced by a good one
            history = [*([old.active] if old.active else []), *old.previous]
            return self._point(name, [previous for previous in history if previous != name])

    def rollback(self) -> Pointer:
        """Make the newest previous snapshot that is still there the active one; the pointer afterwards."""
        with self.locked():
            there = set(self.names())
            previous = [name for name in self.pointer().previous if name in there]
            if not previous:
                raise SnapshotNotFound(f"{self.root}: no previous snapshot to roll back to")
            read_manifest(self.snapshots / previous[0])
            return self._point(previous[0], previous[1:])

    def _point(self, active: str, previous: list[str]) -> Pointer:
        pointer = Pointer(active, tuple(previous[:KEPT_PREVIOUS]))
        self.replace(CURRENT, orjson.dumps({"active": active, "previous": pointer.previous}))
        return pointer

    def replace(self, name: str, content: bytes) -> None:
        """Replace a file of the store itself, atomically and for good; the caller holds `locked`."""
        temporary = self.root / f".{name}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.root / name)
            force(self.root)
        except OSError as error:
            raise StoreError(f"{self.root / name}: cannot be written ({error.strerror})") from error

    def verify(self, name: str) -> list[str]:
        """Check every file of a snapshot against its manifest; one sentence for each fault, none if it is sound."""
        try:
            folder = self.snapshots / self.resolve(name)
            manifest = read_manifest(folder)
        except SimshardError as error:
            return [str(error)]
        faults = []
        for info in manifest.files:
            try:
                verify_file(folder, info)
            except CorruptFile as error:
                faults.append(str(error))
        return faults

    def prune(self, keep: int) -> tuple[list[str], list[str]]:
        """Remove all snapshots but the active one, the `keep` active before it, and those in use.

        Two lists of names: removed, and left because a reader holds them.
        """
        self.clean()
        with self.locked():
            pointer = self.pointer()
            there = self.names()
            kept = {pointer.active, *[name for name in pointer.previous if name in there][:keep]}
            removed, held = [], []
            for name in there:
                if name in kept:
                    continue
                folder = self.snapshots / name
                try:
                    lock = os.open(folder / MANIFEST, os.O_RDONLY)
                except FileNotFoundError:
                    lock = os.open(folder, os.O_RDONLY)  # what an interrupted prune left
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    (folder / MANIFEST).unlink(missing_ok=True)
                    force(folder)
                    shutil.rmtree(folder)
                    removed.append(name)
                except BlockingIOError:
                    held.append(name)
                finally:
                    os.close(lock)
            if pointer.active and removed:
                self._point(pointer.active, [name for name in pointer.previous if name not in removed])
        return removed, held


class Snapshot:
    """A published snapshot held open: `prune` leaves it alone until `close` or the end of the process."""

    def __init__(self, store: Store, name: str | None = None) -> None:
        self._lock = -1
        self.folder = store.snapshots / store.resolve(name)
        try:
            self._lock = os.open(self.folder / MANIFEST, os.O_RDONLY)
        except OSError as error:
            raise SnapshotNotFound(f"{self.folder}: cannot be opened ({error.strerror})") from error
        fcntl.flock(self._lock, fcntl.LOCK_SH)
        if not os.fstat(self._lock).st_nlink:
            raise SnapshotNotFound(f"{self.folder}: the snapshot was just pruned")
        self.manifest = read_manifest(self.folder)

    @property
    def name(self) -> str:
        """The snapshot's name."""
        return self.manifest.name

    def close(self) -> None:
        """Let go of the snapshot; calling it again does nothing."""
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __del__(self) -> None:
        self.close()


def _lock_folder(folder: Path) -> int | None:
    """An exclusive lock on a folder as a file descriptor; None if somebody holds it or it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(lock).st_ino == os.stat(folder).st_ino:
            return lock
    except OSError:
        pass
    os.close(lock)
    return None


def force(path: Path) -> None:
    """Force a file, or what a folder lists, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
