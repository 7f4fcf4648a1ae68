"""Copies of a bucket's snapshots: brought once, bounded, and never dropped while somebody has them open."""

import os
import secrets

import pytest

from simshard.shards.bucket_store import BucketStore
from simshard.shards.copies import send
from simshard.shards.errors import StoreError, StoreReadOnly
from simshard.shards.hidden import change_hidden, read_hidden
from simshard.shards.leases import Lease
from simshard.shards.local_copies import LocalCopies, Location
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store
from tests.support.progress import QUIET
from tests.support.s3 import BUCKET, FaultyRelay, running_s3, variables


@pytest.fixture(scope="module")
def s3():
    with running_s3() as server:
        yield server


@pytest.fixture
def there(s3, tmp_path):
    """Three snapshots in a bucket, the first of them active."""
    store = BucketStore(f"s3://{BUCKET}/{secrets.token_hex(4)}")
    local = write_store(tmp_path / "built", random_matrix(0, 30))
    for seed in (1, 2):
        write_store(local.root, random_matrix(seed, 30))
    for name in local.names():
        send(local, name, store, QUIET)
    store.activate(local.names()[0])
    return store


def copies_of(there, folder, size=None):
    return LocalCopies(Location(there.place, str(folder), size))


def test_a_location_is_a_path_or_a_folder_of_copies(tmp_path, monkeypatch):
    assert Location("/a/b").folder == "/a/b" and Location("/a/b").copies() is None
    monkeypatch.setenv("SIMSHARD_CACHE_DIR", str(tmp_path))
    one, other = (Location(f"s3://bucket/{name}").folder for name in ("a", "b"))
    assert one != other and one.startswith(f"{tmp_path}/") and Location("s3://bucket/a/").folder == one
    monkeypatch.delenv("SIMSHARD_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/caches")
    assert Location("s3://bucket/a").folder.startswith("/caches/simshard/")


def test_they_follow_what_is_active_and_hidden(there, tmp_path):
    names = there.names()
    copies = copies_of(there, tmp_path / "cache")
    copies.follow(QUIET)
    assert (copies.local.names(), copies.local.resolve()) == ([names[0]], names[0])
    change_hidden(there, 7, True)
    there.activate(names[2])
    copies.follow(QUIET)
    assert copies.local.pointer() == there.pointer()
    assert 7 in read_hidden(copies.local)
    change_hidden(copies, 8, True)  # as a server does
    assert 8 in read_hidden(there) and 8 in read_hidden(copies.local)
    assert copies.rollback().active == names[0] == there.pointer().active


def test_the_least_recently_used_are_dropped_but_not_what_is_open(there, tmp_path):
    names = there.names()
    size = max(there.manifest(name).total_bytes for name in names)
    copies = copies_of(there, tmp_path / "cache", 2 * size)
    for place, name in enumerate(names[:2]):
        copies.bring(name, QUIET)
        os.utime(copies.local.snapshots / name, (place, place))
    held = Snapshot(copies.local, names[0])
    copies.bring(names[2], QUIET)
    assert copies.local.names() == [names[0], names[2]]
    other = Snapshot(copies.local, names[2])
    with pytest.raises(StoreError, match=r"copies that are open take .* and they may take .*--cache-size"):
        copies.bring(names[1], QUIET)
    held.close()
    other.close()
    copies.bring(names[1], QUIET)
    assert names[1] in copies.local.names() and len(copies.local.names()) == 2


def test_a_snapshot_that_can_never_fit_is_refused_with_the_numbers(there, tmp_path):
    size = there.manifest().total_bytes
    with pytest.raises(StoreError, match=rf"has {size:,} bytes, the copies may take {size - 1:,}; allow more"):
        copies_of(there, tmp_path / "cache", size - 1).bring(None, QUIET)


def test_a_bucket_that_may_only_be_read_is_followed_and_not_changed(s3, there, tmp_path):
    names = there.names()
    relay = FaultyRelay(s3.port, 0.0)
    relay.read_only = True
    with variables(s3.environment(relay.url)):
        copies = copies_of(there, tmp_path / "cache")
        copies.follow(QUIET)
        assert copies.local.resolve() == names[0]
        for change in (lambda: change_hidden(copies, 7, True), lambda: copies.activate(names[1])):
            with pytest.raises(StoreReadOnly, match=r"\.json: may not be written; these credentials do not allow it"):
                change()
        with pytest.raises(StoreReadOnly):
            Lease(copies.remote.bucket, names[0], required=True)
    relay.close()
    assert there.pointer().active == names[0] and read_hidden(there).items == ()
