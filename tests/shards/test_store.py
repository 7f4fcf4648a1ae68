import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from simshard.shards.errors import CorruptFile, SnapshotNotFound, StoreError
from simshard.shards.format import ShardReader
from simshard.shards.manifest import read_manifest
from simshard.shards.store import Snapshot, Store
from tests.support.builder import random_matrix, read_matrix, write_store

MATRIX = random_matrix(1, 20)


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", MATRIX)


def add(store, **options):
    write_store(store.root, MATRIX, **options)
    return store.pointer().active


def test_any_arrow_tool_reads_either_encoding(tmp_path):
    for encoding in ("dense", "sparse"):
        store = write_store(tmp_path / encoding, MATRIX, encoding, shards=3, batch_rows=4)
        assert np.array_equal(read_matrix(store), MATRIX, equal_nan=True)


def test_activate_rollback_and_the_history(store):
    first = store.pointer().active
    second, third = add(store), add(store)
    assert store.pointer().previous == (second, first)
    assert store.rollback().active == second
    assert store.pointer().previous == (first,)
    store.activate(third)
    assert store.pointer().previous == (second, first)
    with pytest.raises(SnapshotNotFound, match="20200101T000000Z-000000"):
        store.activate("20200101T000000Z-000000")
    with pytest.raises(SnapshotNotFound):
        store.activate("../../etc")


def test_an_empty_store_says_what_to_do(tmp_path):
    with pytest.raises(SnapshotNotFound, match="simshard ingest"):
        Store(tmp_path).manifest()
    with pytest.raises(SnapshotNotFound, match="no previous"):
        Store(tmp_path).rollback()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"active": 1, "previous": []}', '{"active": "../x", "previous": []}']
)
def test_a_damaged_pointer_is_refused_and_activate_repairs_it(store, content):
    name = store.pointer().active
    (store.root / "current.json").write_text(content)
    with pytest.raises(StoreError, match=r"current\.json"):
        store.pointer()
    assert store.activate(name).active == name


def flip(path: Path, at: int) -> None:
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("encoding", ["dense", "sparse"])
@pytest.mark.parametrize("file", ["items.arrow", "shard-00000.arrow", "shard-00001.arrow"])
def test_verify_names_the_file_of_a_flipped_byte(store, encoding, file):
    name = add(store, encoding=encoding)
    assert store.verify(name) == []
    path = store.snapshots / name / file
    for at in (0, path.stat().st_size // 2, path.stat().st_size - 1):
        flip(path, at)
        (fault,) = store.verify(name)
        assert file in fault
        flip(path, at)
    assert store.verify(name) == []


def test_verify_names_a_short_and_a_missing_file(store):
    name = store.pointer().active
    path = store.snapshots / name / "shard-00001.arrow"
    os.truncate(path, path.stat().st_size - 1)
    (store.snapshots / name / "items.arrow").unlink()
    missing, short = store.verify(name)
    assert "items.arrow" in missing
    assert "shard-00001.arrow" in short


def test_a_truncated_shard_is_refused_by_its_reader(store):
    folder = store.snapshots / store.pointer().active
    manifest = read_manifest(folder)
    path = folder / "shard-00000.arrow"
    for size in (path.stat().st_size - 20, 64, 0):
        os.truncate(path, size)
        with pytest.raises(CorruptFile, match=r"shard-00000\.arrow"):
            ShardReader(folder, manifest, 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, "format 99"),
        ({"name": "20200101T000000Z-000000"}, "20200101T000000Z-000000"),
        ({"encoding": "zip"}, "zip"),
        ({"items": 21}, "row 20 of 21"),
        ({"shards": []}, "row 0 of 20"),
        ({"items_file": {"file": "../x", "bytes": 1, "checksum": "0" * 32}}, "../x"),
        ({"items_file": {"file": "items.arrow", "bytes": 1, "checksum": ""}}, "checksum missing"),
        ({"items_file": {"file": "items.arrow", "bytes": 1}}, "checksum"),
    ],
)
def test_a_manifest_that_does_not_hold_together_is_refused(store, change, message):
    folder = store.snapshots / store.pointer().active
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(StoreError, match=r"manifest\.json") as refused:
        read_manifest(folder)
    assert message in str(refused.value)


def test_prune_keeps_the_active_one_the_last_before_it_and_those_in_use(store):
    first, second, third, fourth = store.pointer().active, add(store), add(store), add(store)
    reader = Snapshot(store, first)
    assert store.prune(keep=1) == ([second], [first])
    assert store.names() == [first, third, fourth]
    reader.close()
    assert store.prune(keep=0) == ([first, third], [])
    assert store.names() == [fourth]
    assert store.pointer().previous == ()


def test_staging_of_a_killed_build_is_removed_and_that_of_a_living_one_is_not(store):
    (store.staging / "20200101T000000Z-000000").mkdir()
    with store.stage() as living:
        assert not (store.staging / "20200101T000000Z-000000").exists()
        (living.folder / "file").touch()
        with store.stage():
            assert (living.folder / "file").exists()
        assert store.clean() == []
    assert list(store.staging.iterdir()) == []


def test_what_is_staged_is_gone_after_an_error_and_readers_never_saw_it(store):
    names = store.names()

    def build():
        with store.stage() as staging:
            (staging.folder / "shard-00000.arrow").touch()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    assert store.names() == names
    assert list(store.staging.iterdir()) == []


def test_a_clock_that_jumps_back(tmp_path):
    """Names tell the order in which snapshots were staged, whatever the clock does."""
    start = datetime(2026, 3, 1, 12, 30, 59, 999_999, tzinfo=UTC)
    steps = (0, 1, -3600, -86_400, 0, 7200, -1)
    names = []
    for seconds in steps:
        store = Store(tmp_path, clock=lambda seconds=seconds: start + timedelta(seconds=seconds))
        with store.stage() as staging:
            names.append(staging.name)
            (store.snapshots / staging.name).mkdir()
    assert names == sorted(names) == store.names()
    assert len(set(names)) == len(steps)
    assert [name[:16] for name in (names[0], names[1], names[2])] == [
        "20260301T123059Z",
        "20260301T123100Z",
        "20260301T123101Z",
    ]
