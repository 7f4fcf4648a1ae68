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
from datetime import UTC, datetime, timedelta
from pathlib import Path

from simshard.shards.errors import CorruptFile, SnapshotNotFound, StoreError
from simshard.shards.manifest import MANIFEST, NAME, FileInfo, Manifest, made_at, name_after, read_manifest, verify_file
from simshard.shards.snapshot_store import SnapshotStore, Stored


class Staging:
    """A snapshot being built: a locked folder, invisible to readers until `publish`."""

    def __init__(self, store: Store, name: str, folder: Path, lock: int) -> None:
        self.store, self.name, self.folder, self._lock = store, name, folder, lock

    def publish(self, manifest: Manifest) -> None:
        """Make the folder a snapshot, all or nothing; its other files must already be forced to disk."""
        self.store.take(self.folder, manifest)

    def close(self) -> None:
        """Remove what was not published and give the lock up."""
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


class Store(SnapshotStore):
    """A store on a local or shared file system.

    clock: the time, which names of snapshots begin with; latest: a name that those of new ones come after.
    """

    def __init__(
        self,
        root: str | Path,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        latest: str | None = None,
    ) -> None:
        self.root = Path(root)
        self.place = str(root)
        self._clock = clock
        self._latest = latest or ""
        self.snapshots = self.root / "snapshots"
        self.staging = self.root / "staging"
        self.incoming = self.root / "incoming"

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
            name = name_after(self._clock(), max([self._latest, *self.names()]) or None)
            folder = self.staging / name
            with suppress(FileExistsError):
                folder.mkdir()
                lock = _lock_folder(folder)
        staging = Staging(self, name, folder, lock)
        try:
            yield staging
        finally:
            staging.close()

    def take(self, folder: Path, manifest: Manifest) -> None:
        """Make a folder on this file system a snapshot, all or nothing; its files must already be forced to disk."""
        with open(folder / MANIFEST, "xb") as file:
            file.write(manifest.to_json())
            file.flush()
            os.fsync(file.fileno())
        force(folder)
        os.rename(folder, self.snapshots / manifest.name)
        force(self.snapshots)
        force(folder.parent)

    def clean(self) -> list[str]:
        """Remove the staging folders that no living build holds; their names."""
        return _remove_unheld(self.staging)

    def names(self) -> list[str]:
        if not self.snapshots.is_dir():
            return []
        return sorted(entry.name for entry in self.snapshots.iterdir() if NAME.fullmatch(entry.name))

    def manifest(self, name: str | None = None) -> Manifest:
        return read_manifest(self.snapshots / self.resolve(name))

    def read(self, name: str, known: Stored | None = None) -> Stored | None:
        path = self.root / name
        try:
            with open(path, "rb") as file:
                status = os.fstat(file.fileno())
                version = (status.st_ino, status.st_mtime_ns, status.st_size)
                return known if known is not None and known.version == version else Stored(file.read(), version)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error

    def change(self, name: str, make: Callable[[bytes | None], bytes]) -> None:
        with self._locked():
            stored = self.read(name)
            content = None if stored is None else stored.content
            made = make(content)
            if made != content:
                self._replace(name, made)

    def read_range(self, name: str, info: FileInfo, start: int, stop: int) -> bytes:
        path = self.snapshots / name / info.file
        try:
            with open(path, "rb", buffering=0) as file:
                found = os.pread(file.fileno(), stop - start, start)
        except OSError as error:
            raise CorruptFile(f"{path}: cannot be read ({error.strerror})") from error
        if len(found) != stop - start:
            raise CorruptFile(f"{path}: it ends at byte {start + len(found)}, before byte {stop}")
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
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

    def _replace(self, name: str, content: bytes) -> None:
        """Replace a file of the store itself, atomically and for good; the caller holds the lock."""
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

    def check_file(self, name: str, info: FileInfo) -> None:
        verify_file(self.snapshots / name, info)

    def remove(self, name: str) -> bool:
        """Remove a snapshot, unless somebody has it open; whether it was removed."""
        folder = self.snapshots / name
        try:
            lock = os.open(folder / MANIFEST, os.O_RDONLY)
        except FileNotFoundError:
            lock = os.open(folder, os.O_RDONLY)  # what an interrupted removal left
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (folder / MANIFEST).unlink(missing_ok=True)
            force(folder)
            shutil.rmtree(folder)
            return True
        except BlockingIOError:
            return False
        finally:
            os.close(lock)

    def prune(self, keep: int, older_than: timedelta | None = None) -> tuple[list[str], list[str]]:
        self.clean()
        _remove_unheld(self.incoming)  # of copies that were interrupted, which nobody goes on with any more
        with self._locked():
            there = self.names()
            kept = self.pointer().kept(keep, there)
            removed: list[str] = []
            held: list[str] = []
            for name in there:
                if name in kept:
                    continue
                young = older_than is not None and self._clock() - made_at(name) < older_than
                (held if young or not self.remove(name) else removed).append(name)
        self.forget(removed)
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


def _remove_unheld(folder: Path) -> list[str]:
    """Remove the folders in a folder that no process holds a lock on; their names."""
    removed = []
    for each in sorted(folder.iterdir()) if folder.is_dir() else []:
        lock = _lock_folder(each)
        if lock is not None:
            shutil.rmtree(each, ignore_errors=True)
            os.close(lock)
            removed.append(each.name)
    return removed


def force(path: Path) -> None:
    """Force a file, or what a folder lists, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
