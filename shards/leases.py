"""Leases in a bucket: who reads or writes which snapshot, as objects that are renewed while that goes on.

They stand in for the locks of a folder. A lease that was not renewed for `EXPIRES` by the bucket's clock is over.
"""

from __future__ import annotations

import logging
import secrets
import socket
import threading
from datetime import datetime, timedelta
from typing import Any

import orjson

from simshard.shards.bucket import Bucket, Found
from simshard.shards.errors import StoreError, StoreReadOnly

Log = logging.getLogger("simshard.leases")

FOLDER = "leases"
RENEWED = 60.0  # seconds
EXPIRES = timedelta(minutes=10)


class Lease:
    """A lease on a snapshot, renewed by a thread until `close`. Raises StoreError where it cannot be written.

    required: whether a bucket that may only be read is a fault; where it is none, there is no lease, and what is read
    relies on `prune --older-than`.
    """

    def __init__(self, bucket: Bucket, snapshot: str, required: bool, renewed: float = RENEWED) -> None:
        self._bucket, self._renewed = bucket, renewed
        self._path = f"{FOLDER}/{snapshot}-{secrets.token_hex(8)}.json"
        self._content = orjson.dumps({"snapshot": snapshot, "host": socket.gethostname()})
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        try:
            bucket.put(self._path, self._content)
        except StoreReadOnly:
            if required:
                raise
            return
        self._thread = threading.Thread(target=self._renew, daemon=True, name="lease")
        self._thread.start()

    def _renew(self) -> None:
        while not self._ended.wait(self._renewed):
            try:
                self._bucket.put(self._path, self._content)
            except StoreError as error:  # tried again at the next turn; ten of them are in the time of a lease
                Log.warning("%s", error)

    def close(self) -> None:
        """Give the lease up."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            try:
                self._bucket.delete([self._path])
            except StoreError as error:  # it ends by itself
                Log.warning("%s", error)

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def now_of(bucket: Bucket) -> datetime:
    """What the bucket's clock says. Raises StoreError where the bucket may not be written."""
    path = f"{FOLDER}/clock-{secrets.token_hex(8)}"
    bucket.put(path, b"")
    try:
        found = bucket.find(path)
        if found is None:
            raise StoreError(f"{bucket.uri}/{path}: what was just written there is gone")
        return found.modified
    finally:
        bucket.delete([path])


def leased(bucket: Bucket, now: datetime) -> set[str]:
    """The snapshots on which there are leases."""
    return {_snapshot_of(each) for each in bucket.list(f"{FOLDER}/") if now - each.modified < EXPIRES}


def _snapshot_of(lease: Found) -> str:
    return lease.path.rpartition("/")[2].rpartition("-")[0]
