"""Stores in buckets keep the promises of stores in folders: nothing is lost, half there, or removed while in use."""

import secrets
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from simshard.shards import copies
from simshard.shards.bucket import Bucket, is_uri
from simshard.shards.bucket_store import BucketStore
from simshard.shards.copies import fetch, send
from simshard.shards.errors import CorruptFile, SnapshotNotFound, StoreError
from simshard.shards.hidden import change_hidden, read_hidden
from simshard.shards.leases import Lease
from simshard.shards.manifest import verify_file
from simshard.shards.store import Store
from tests.support.builder import random_matrix, write_store
from tests.support.progress import QUIET
from tests.support.s3 import BUCKET, FaultyRelay, running_s3, variables

MATRIX = random_matrix(3, 40)


@pytest.fixture(scope="module")
def s3():
    with running_s3() as server:
        yield server


@pytest.fixture
def uri(s3):
    return f"s3://{BUCKET}/{secrets.token_hex(4)}/store"


@pytest.fixture
def local(tmp_path):
    return write_store(tmp_path / "local", MATRIX, shards=3)


def test_a_snapshot_is_the_same_on_disk_in_the_bucket_and_copied_back(uri, local, tmp_path):
    name = local.resolve()
    there = BucketStore(uri)
    manifest = send(local, name, there, QUIET)
    assert there.names() == [name] and there.pointer().active is None
    assert there.manifest(name) == manifest == local.manifest()
    assert there.verify(name) == []
    there.activate(name)
    back = Store(tmp_path / "back")
    assert fetch(there, there.resolve(), back, QUIET) == manifest
    assert back.verify(name) == [] and back.names() == [name]
    for info in manifest.files:
        verify_file(back.snapshots / name, info)
    assert not list(back.incoming.iterdir())
    assert fetch(there, name, back, QUIET) == manifest  # again: nothing to do
    assert fetch(local, name, Store(tmp_path / "third"), QUIET) == manifest  # from folder to folder
    assert there.bucket.list("leases/") == []


def test_of_changes_at_the_same_time_none_is_lost(uri, local):
    there = BucketStore(uri)
    send(local, local.resolve(), there, QUIET)
    ids = list(range(24))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda id_: change_hidden(BucketStore(uri), id_, True), ids))
    hidden = read_hidden(there)
    assert sorted(id_ for id_, _ in hidden.items) == ids and hidden.version == len(ids)
    assert read_hidden(there, hidden) is hidden


def test_activate_and_rollback(uri, local):
    there = BucketStore(uri)
    with pytest.raises(SnapshotNotFound, match="no active snapshot"):
        there.resolve()
    names = [local.resolve()]
    for seed in range(2):
        write_store(local.root, random_matrix(seed, 40))
        names.append(local.resolve())
    for name in names:
        send(local, name, there, QUIET)
        there.activate(name)
    assert there.pointer().previous == (names[1], names[0])
    assert there.rollback().active == names[1]
    with pytest.raises(SnapshotNotFound, match="no snapshot 'none'"):
        there.activate("none")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda name: BucketStore(uri).activate(name), names * 2))
    pointer = there.pointer()
    assert sorted([pointer.active, *pointer.previous]) == names


def test_prune_leaves_what_is_leased_young_or_wanted(uri, local):
    there = BucketStore(uri)
    names = []
    for seed in range(4):
        write_store(local.root, random_matrix(seed, 40))
        names.append(local.resolve())
        send(local, names[-1], there, QUIET)
        there.activate(names[-1])
    assert there.prune(1) == ([], names[:2])  # all are younger than a week
    with Lease(there.bucket, names[0], required=True):
        assert there.prune(1, timedelta(0)) == ([names[1]], [names[0]])
        assert there.names() == [names[0], *names[2:]]
    assert there.prune(0, timedelta(0)) == ([names[0], names[2]], [])
    assert there.names() == [names[3]] and there.pointer().previous == ()
    assert {each.path.split("/")[1] for each in there.bucket.list("snapshots/")} == {names[3]}
    assert there.bucket.list("leases/") == []


def test_a_lease_is_renewed_until_it_is_given_up(uri):
    bucket, written = Bucket(uri), threading.Semaphore(0)
    put = bucket.put
    bucket.put = lambda *arguments: (put(*arguments), written.release())
    with Lease(bucket, "20260101T000000Z-000000", required=True, renewed=0.05):
        for _ in range(3):
            assert written.acquire(timeout=10)
        assert len(bucket.list("leases/")) == 1
    assert bucket.list("leases/") == []


def test_a_copy_goes_on_where_it_was_interrupted(uri, local, tmp_path, monkeypatch):
    monkeypatch.setattr(copies, "_RANGE", 500)
    name = local.resolve()
    there, back = BucketStore(uri), Store(tmp_path / "back")
    send(local, name, there, QUIET)
    read, asked = BucketStore.read_range, []

    def failing(store, name, info, start, stop):
        asked.append((info.file, start))
        if len(asked) > 20 and not back.root.joinpath("on").exists():
            raise StoreError("away")
        return read(store, name, info, start, stop)

    monkeypatch.setattr(BucketStore, "read_range", failing)
    with pytest.raises(StoreError, match="away"):
        fetch(there, name, back, QUIET)
    assert back.names() == []
    before = len(asked)
    back.root.joinpath("on").touch()
    manifest = fetch(there, name, back, QUIET)
    ranges = sum(-(-info.bytes // 500) for info in manifest.files)
    assert ranges - 20 <= len(asked) - before < ranges
    assert back.verify(name) == []


def test_prune_removes_what_an_interrupted_copy_left(uri, local, tmp_path, monkeypatch):
    name, there, back = local.resolve(), BucketStore(uri), Store(tmp_path / "back")
    send(local, name, there, QUIET)
    read = BucketStore.read_range

    def failing(store, name, info, start, stop):
        if info.file == "shard-00001.arrow":
            raise StoreError("away")
        return read(store, name, info, start, stop)

    monkeypatch.setattr(BucketStore, "read_range", failing)
    with pytest.raises(StoreError, match="away"):
        fetch(there, name, back, QUIET)
    assert [folder.name for folder in back.incoming.iterdir()] == [name]
    assert back.prune(1) == ([], []) and not list(back.incoming.iterdir())


def test_files_that_were_sent_whole_are_not_sent_again(uri, local, monkeypatch):
    name, there = local.resolve(), BucketStore(uri)
    upload, sent = Bucket.upload, []

    def failing(bucket, file, path, note):
        if file.name == "shard-00002.arrow" and not sent[0:1] == ["again"]:
            raise StoreError("away")
        sent.append(file.name)
        upload(bucket, file, path, note)

    monkeypatch.setattr(Bucket, "upload", failing)
    with pytest.raises(StoreError, match="away"):
        send(local, name, there, QUIET)
    assert there.names() == []
    first = set(sent)
    sent[:] = ["again"]
    send(local, name, there, QUIET)
    assert there.verify(name) == []
    assert not first & set(sent[1:])


@pytest.mark.parametrize("share", [0.15])
def test_faults_on_the_way_cost_time_and_nothing_else(s3, uri, local, tmp_path, monkeypatch, share):
    monkeypatch.setattr(copies, "_RANGE", 2000)
    name = local.resolve()
    send(local, name, BucketStore(uri), QUIET)
    relay = FaultyRelay(s3.port, share, ("500", "cut"))
    with variables(s3.environment(relay.url)):
        back = Store(tmp_path / "back")
        fetch(BucketStore(uri), name, back, QUIET)
    relay.close()
    assert back.verify(name) == [] and relay.told["500"] and relay.told["cut"]


def test_wrong_bytes_are_refused_and_nothing_is_published(s3, uri, local, tmp_path):
    name = local.resolve()
    send(local, name, BucketStore(uri), QUIET)
    relay = FaultyRelay(s3.port, 1.0, ("bytes",))
    with variables(s3.environment(relay.url)):
        back = Store(tmp_path / "back")
        with pytest.raises(CorruptFile, match=r"s3://.*items\.arrow of snapshot .* is not what its manifest says"):
            fetch(BucketStore(uri), name, back, QUIET)
        assert back.names() == []
        relay.share = 0.0
        fetch(BucketStore(uri), name, back, QUIET)
    relay.close()
    assert back.verify(name) == []


def test_a_damaged_object_is_named(uri, local):
    name, there = local.resolve(), BucketStore(uri)
    manifest = send(local, name, there, QUIET)
    first, second = manifest.shards[:2]
    there.bucket.put(f"snapshots/{name}/{first.file}", b"x" * first.bytes)
    there.bucket.delete([f"snapshots/{name}/{second.file}"])
    faults = there.verify(name)
    assert len(faults) == 2
    assert first.file in faults[0] and "checksum differs" in faults[0]
    assert second.file in faults[1] and "not there" in faults[1]


def test_what_holds_something_else_is_refused(uri, local):
    there = BucketStore(uri)
    there.bucket.put("holiday/beach.jpg", b"")
    with pytest.raises(StoreError, match=r"it holds 'holiday/beach\.jpg', which is of no store"):
        send(local, local.resolve(), there, QUIET)


@pytest.mark.parametrize(
    "uri", ["ftp://a/b", "s3://", "s3://user:secret@host/x", "s3://a/b?secret=1", "s3://a:9000/b", "s4://a/b"]
)
def test_a_uri_that_names_no_store_is_refused_without_its_secrets(uri):
    assert is_uri(uri)
    with pytest.raises(StoreError, match="a store is a path, or one of s3://BUCKET/FOLDER") as caught:
        BucketStore(uri)
    assert "secret" not in str(caught.value)


def test_what_lacks_is_told_in_one_sentence(s3, local, monkeypatch):
    with pytest.raises(StoreError, match=r"s3://none/x/snapshots/: cannot be listed: there is no such bucket"):
        BucketStore("s3://none/x").names()
    with pytest.raises(StoreError, match=r"cannot be written: there is no such bucket"):
        BucketStore("s3://none/x").change("current.json", lambda _: b"1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="no credentials were found; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        BucketStore(f"s3://{BUCKET}/x").pointer()
