"""What a replica does with the supervisor's state, without Ray: the table that it opens."""

import os

import pyarrow as pa
import pytest

from simshard.serve.cluster.rounds import State
from simshard.serve.cluster.table_opener import TableOpener
from simshard.serve.engine import table as table_file
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.shards.actor import Held
from simshard.shards.attributes import origins_of
from simshard.shards.errors import InvalidFilter, SimshardError
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL

POSTERS = {"poster": pa.array([f"https://host{row % 2}.example/{row}" for row in range(6)])}
ORIGINS = ("https://host0.example", "https://host1.example")


@pytest.fixture
def counted(monkeypatch):
    """The columns whose addresses were counted."""
    columns = []

    def watched(column):
        columns.append(column)
        return origins_of(column)

    monkeypatch.setattr(table_file, "origins_of", watched)
    return columns


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path, random_matrix(1, 6), shards=2, attributes=POSTERS)


def opener_of(store, image="poster", filters=None):
    """An opener on the node "node", for a service that serves nothing yet; of actors there are no handles."""
    service = Service(Cache(Lru(1 << 20), None), POOL, filters=filters or {})
    return TableOpener(service, store, POOL, "node", lambda shard: None, maps=True, shard_timeout=5.0, image=image)


def state_of(store, version=1, node="node"):
    name = store.resolve()
    held = []
    for info in store.manifest().shards:
        path = store.snapshots / name / info.file
        status = os.stat(path)
        held.append(Held(node, str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return State(str(store.root), version, name, tuple(held))


def test_pictures_are_counted_once_for_a_snapshot(store, counted):
    opener = opener_of(store)
    table = opener.open(state_of(store))
    assert (table.image, table.image_origins, table.remote, len(counted)) == ("poster", ORIGINS, False, 1)
    opener.service.serve(table)
    moved = opener.open(state_of(store, 2, "node-9"))
    assert (moved.image, moved.image_origins, moved.remote, len(counted)) == ("poster", ORIGINS, True, 1)
    opener.service.serve(moved)
    write_store(store.root, random_matrix(2, 6), attributes=POSTERS)
    opener.service.serve(opener.open(state_of(store, 3)))
    assert len(counted) == 2
    store.rollback()  # the one before is open still
    assert (opener.open(state_of(store, 4)).image_origins, len(counted)) == (ORIGINS, 2)


def test_a_table_that_cannot_be_adopted_counts_nothing(store, counted):
    opener = opener_of(store, filters={"clean": {"must": [{"key": "nothing", "is_null": False}]}})
    with pytest.raises(InvalidFilter, match="clean"):
        opener.open(state_of(store))
    (store.root / "hidden.json").write_text("{")
    with pytest.raises(SimshardError, match=r"hidden\.json"):
        opener_of(store).open(state_of(store))
    assert counted == []


@pytest.mark.parametrize("image", ["poster", "nothing", None])
def test_a_snapshot_without_the_column_of_pictures_is_logged(store, counted, caplog, image):
    table = opener_of(store, image).open(state_of(store))
    warned = [record.message for record in caplog.records]
    if image == "nothing":
        assert warned == [f"image 'nothing': the items of snapshot {table.name} have no text attribute of that name"]
    else:
        assert warned == []
    assert table.image == (None if image == "nothing" else image)
