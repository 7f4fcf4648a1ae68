"""A store in a bucket: the same files as in a folder, each written as a whole, the manifest of a snapshot last."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timedelta

import xxhash

from simshard.shards.bucket import Bucket
from simshard.shards.errors import CorruptFile, SnapshotNotFound, StoreError
from simshard.shards.leases import EXPIRES, leased, now_of
from simshard.shards.manifest import MANIFEST, NAME, FileInfo, Manifest, parse_manifest
from simshard.shards.snapshot_store import SnapshotStore, Stored

SNAPSHOTS = "snapshots"
KEPT = timedelta(days=7)  # what servers that may not write leases rely on
_TRIES = 20
_OURS = ("current.json", "hidden.json", "snapshots/", "leases/")
_READ_SIZE = 16 << 20


class BucketStore(SnapshotStore):
    """A store below a URI; raises StoreError for one that is none."""

    def __init__(self, uri: str) -> None:
        self.bucket = Bucket(uri)
        self.place = self.bucket.uri

    def read(self, name: str, known: Stored | None = None) -> Stored | None:
        return self.bucket.read(name, known)

    def change(self, name: str, make: Callable[[bytes | None], bytes]) -> None:
        for turn in range(_TRIES):
            stored = self.bucket.read(name)
            content = None if stored is None else stored.content
            made = make(content)
            if made == content or self.bucket.write(name, made, stored):
                return
            time.sleep(random.uniform(0, 0.01 * 2 ** min(turn, 6)))
        raise StoreError(f"{self.place}/{name}: others change it all the time; try again")

    def names(self) -> list[str]:
        paths = [each.path.split("/") for each in self.bucket.list(f"{SNAPSHOTS}/")]
        return sorted(path[1] for path in paths if path[2:] == [MANIFEST] and NAME.fullmatch(path[1]))

    def manifest(self, name: str | None = None) -> Manifest:
        name = self.pointer().active if name is None else name
        if name is None or not NAME.fullmatch(name):
            name = self.resolve(name)  # which tells what is wrong
        path = f"{SNAPSHOTS}/{name}/{MANIFEST}"
        stored = self.bucket.read(path)
        if stored is None:
            self.resolve(name)
            raise SnapshotNotFound(f"{self.place}: snapshot {name} was just removed")
        return parse_manifest(stored.content, name, f"{self.place}/{path}")

    def read_range(self, name: str, info: FileInfo, start: int, stop: int) -> bytes:
        path = f"{SNAPSHOTS}/{name}/{info.file}"
        found = self.bucket.read_range(path, start, stop)
        if len(found) != stop - start:
            raise CorruptFile(f"{self.place}/{path}: it ends at byte {start + len(found)}, before byte {stop}")
        return found

    def check_ours(self) -> None:
        """Raise StoreError where the bucket holds something else than a store."""
        for each in self.bucket.list():
            if not each.path.startswith(_OURS):
                raise StoreError(
                    f"{self.place}: it holds {each.path!r}, which is of no store; name an empty folder in it"
                )

    def check_file(self, name: str, info: FileInfo) -> None:
        path = f"{SNAPSHOTS}/{name}/{info.file}"
        found = self.bucket.find(path)
        fault = None if found is None else f"{found.bytes} bytes, but the manifest says {info.bytes}"
        if found is None or found.bytes != info.bytes:
            raise CorruptFile(
                f"{self.place}/{path}: {fault or 'it is not there'}; copy the snapshot again, or roll back"
            )
        digest = xxhash.xxh3_128()
        for start in range(0, info.bytes, _READ_SIZE):
            digest.update(self.read_range(name, info, start, min(start + _READ_SIZE, info.bytes)))
        if digest.hexdigest() != info.checksum:
            raise CorruptFile(f"{self.place}/{path}: checksum differs from the manifest; copy the snapshot again")

    def prune(self, keep: int, older_than: timedelta | None = None) -> tuple[list[str], list[str]]:
        older_than = KEPT if older_than is None else older_than
        now = now_of(self.bucket)
        files: dict[str, dict[str, datetime]] = {}
        for each in self.bucket.list(f"{SNAPSHOTS}/"):
            files.setdefault(each.path.split("/")[1], {})[each.path] = each.modified
        there = {name for name, paths in files.items() if f"{SNAPSHOTS}/{name}/{MANIFEST}" in paths}
        kept, in_use = self.pointer().kept(keep, there), leased(self.bucket, now)
        removed, held = [], []
        for name in sorted(set(files) - kept):
            age = now - max(files[name].values())
            if name not in there:  # somebody copies it there, or was interrupted
                if age >= max(older_than, EXPIRES) and name not in in_use:
                    self.bucket.delete(sorted(files[name]))
            elif age < older_than or name in in_use or not self._withdraw(name, now):
                held.append(name)
            else:
                self.bucket.delete(sorted(files[name]))
                removed.append(name)
        self.forget(removed)
        return removed, held

    def _withdraw(self, name: str, now: datetime) -> bool:
        """Take the manifest away, so that nobody begins to read; put it back where somebody just did."""
        path = f"{SNAPSHOTS}/{name}/{MANIFEST}"
        stored = self.bucket.read(path)
        self.bucket.delete([path])
        if stored is not None and name in leased(self.bucket, now):
            self.bucket.put(path, stored.content)
            return False
        return True
