"""A snapshot from one store to another: in parallel, verified, gone on with after a stop, the manifest last."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager, suppress
from pathlib import Path

from simshard.shards.bucket_store import SNAPSHOTS, BucketStore
from simshard.shards.errors import CorruptFile, StoreError
from simshard.shards.leases import Lease
from simshard.shards.manifest import MANIFEST, FileInfo, Manifest, verify_file
from simshard.shards.progress import Progress
from simshard.shards.snapshot_store import SnapshotStore
from simshard.shards.store import Snapshot, Store

_RANGE = 8 << 20
_AT_ONCE = 8  # ranges
_FILES_AT_ONCE = 2
_TRIES = 3  # of a file whose checksum is not the manifest's


def fetch(source: SnapshotStore, name: str, target: Store, progress: Progress) -> Manifest:
    """Copy a snapshot into a store in a folder, where it is not there yet; its manifest. It is not activated.

    What an earlier copy left in the store's `incoming` is gone on with. Raises StoreError, and CorruptFile for bytes
    that are not the manifest's however often they are read; then nothing was published.
    """
    if name in target.names():
        return target.manifest(name)
    with _held(source, name):
        manifest = source.manifest(name)
        try:
            with _incoming(target, name) as folder:
                if name in target.names():  # another process brought it meanwhile
                    return target.manifest(name)
                _check_space(folder, manifest)
                progress.phase("Copying", "B", manifest.total_bytes)
                with ThreadPoolExecutor(_AT_ONCE) as pool:
                    for info in manifest.files:
                        _fetch_file(source, name, info, folder, pool, progress)
                (folder / MANIFEST).unlink(missing_ok=True)  # of a copy that was interrupted at its end
                target.take(folder, manifest)
        except OSError as error:
            raise StoreError(f"{error.filename or target.place}: cannot be written ({error.strerror})") from error
    return manifest


@contextmanager
def _held(source: SnapshotStore, name: str) -> Iterator[None]:
    """Nobody prunes the snapshot meanwhile."""
    if isinstance(source, BucketStore):
        with Lease(source.bucket, name, required=False):
            yield
    elif isinstance(source, Store):
        snapshot = Snapshot(source, name)
        try:
            yield
        finally:
            snapshot.close()


@contextmanager
def _incoming(target: Store, name: str) -> Iterator[Path]:
    """The folder that a snapshot arrives in, locked: others who want it wait until it is there."""
    folder = target.incoming / name
    for each in (target.snapshots, folder):
        each.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():  # published by who held it
            folder.mkdir()
        yield folder
    finally:
        with suppress(OSError):
            folder.rmdir()  # of who waited until it was there
        os.close(lock)


def _check_space(folder: Path, manifest: Manifest) -> None:
    there = sum(path.stat().st_blocks * 512 for path in folder.iterdir())
    free = shutil.disk_usage(folder).free
    if manifest.total_bytes - there > free:
        raise StoreError(
            f"{folder}: {free / 2**30:,.1f} GB are free there, snapshot {manifest.name} has "
            f"{manifest.total_bytes / 2**30:,.1f} GB"
        )


def _fetch_file(
    source: SnapshotStore, name: str, info: FileInfo, folder: Path, pool: ThreadPoolExecutor, progress: Progress
) -> None:
    """A file, range by range; a journal beside it tells which are there already."""
    path, journal = folder / info.file, folder / f"{info.file}.ranges"
    if path.exists() and not journal.exists():
        with suppress(CorruptFile):
            verify_file(folder, info)
            progress.advance(info.bytes)
            return
    for turn in range(_TRIES):
        done = set(journal.read_bytes().split(b"\n")[:-1]) if journal.exists() else set()
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            with open(journal, "ab", buffering=0) as told:
                os.ftruncate(file, info.bytes)

                def bring(start: int) -> int:
                    stop = min(start + _RANGE, info.bytes)
                    found = source.read_range(name, info, start, stop)
                    os.pwrite(file, found, start)  # noqa: B023 - ended within this turn
                    return start

                starts = [start for start in range(0, info.bytes, _RANGE) if b"%d" % start not in done]
                progress.advance(info.bytes - sum(min(_RANGE, info.bytes - start) for start in starts))
                for finished in as_completed([pool.submit(bring, start) for start in starts]):
                    start = finished.result()
                    told.write(b"%d\n" % start)
                    progress.advance(min(_RANGE, info.bytes - start))
            os.fsync(file)
        finally:
            os.close(file)
        try:
            verify_file(folder, info)
            journal.unlink()
            return
        except CorruptFile as error:
            journal.unlink()
            if turn == _TRIES - 1:
                path.unlink()
                raise CorruptFile(
                    f"{source.place}: {info.file} of snapshot {name} is not what its manifest says, "
                    f"read {_TRIES} times; verify the snapshot there"
                ) from error
            progress.advance(-info.bytes)


def send(source: Store, name: str, target: BucketStore, progress: Progress) -> Manifest:
    """Copy a snapshot of a folder into a bucket, where it is not there yet; its manifest. It is not activated.

    Files that an earlier copy brought whole are not sent again. Raises StoreError, and CorruptFile for a file that is
    not the manifest's; then nothing was published.
    """
    manifest = source.manifest(name)
    if name in target.names():
        return target.manifest(name)
    target.check_ours()
    folder = source.snapshots / name
    with _held(source, name), Lease(target.bucket, name, required=True):
        progress.phase("Copying", "B", manifest.total_bytes)

        def bring(info: FileInfo) -> int:
            path = f"{SNAPSHOTS}/{name}/{info.file}"
            there = target.bucket.find(path)
            if there is None or there.bytes != info.bytes or target.bucket.note_of(path) != info.checksum:
                verify_file(folder, info)
                target.bucket.upload(folder / info.file, path, info.checksum)
            return info.bytes

        with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
            for finished in as_completed([pool.submit(bring, info) for info in manifest.files]):
                progress.advance(finished.result())
        target.bucket.put(f"{SNAPSHOTS}/{name}/{MANIFEST}", manifest.to_json())
    return manifest


def copy_snapshot(source: SnapshotStore, name: str, target: SnapshotStore, progress: Progress) -> Manifest:
    """Copy a snapshot from any store to any other; its manifest. As `fetch` and `send`."""
    if isinstance(target, Store):
        return fetch(source, name, target, progress)
    if not isinstance(target, BucketStore):
        raise StoreError(f"{target.place}: snapshots are copied to paths and URIs")
    if isinstance(source, Store):
        return send(source, name, target, progress)
    with tempfile.TemporaryDirectory(prefix="simshard-") as folder:  # from bucket to bucket by way of this machine
        between = Store(folder)
        fetch(source, name, between, progress)
        return send(between, name, target, progress)
