"""What a replica does with the supervisor's state, without Ray: the table that it opens."""

import os
import warnings
from types import SimpleNamespace

import pyarrow as pa
import pytest

from simshard.serve.cluster.supervisor import State
from simshard.serve.engine import table as table_file
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.settings import Settings
from simshard.shards.actor import Held
from simshard.shards.attributes import origins_of
from simshard.shards.errors import InvalidFilter, SimshardError
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at its import
    from simshard.serve import app as app_file

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
    monkeypatch.setattr(app_file, "ray", SimpleNamespace(get_actor=lambda *_, **__: None))
    return columns


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path, random_matrix(1, 6), shards=2, attributes=POSTERS)


def replica(store, image="poster", filters=None):
    """An ingress that follows nothing."""
    this = object.__new__(app_file.Ingress)
    this._settings = Settings(store=str(store.root), image=image)
    this._node, this._store, this._pool = "node", store, POOL
    this._service = Service(Cache(Lru(1 << 20), None), POOL, filters=filters or {})
    return this


def state_of(store, version=1, node="node"):
    name = store.resolve()
    held = []
    for info in store.manifest().shards:
        path = store.snapshots / name / info.file
        status = os.stat(path)
        held.append(Held(node, str(path), status.st_ino, status.st_size, status.st_mtime_ns))
    return State(str(store.root), version, name, tuple(held))


def test_pictures_are_counted_once_for_a_snapshot(store, counted):
    this = replica(store)
    table = this._open(state_of(store))
    assert (table.image, table.image_origins, table.remote, len(counted)) == ("poster", ORIGINS, False, 1)
    this._service.serve(table)
    moved = this._open(state_of(store, 2, "node-9"))
    assert (moved.image, moved.image_origins, moved.remote, len(counted)) == ("poster", ORIGINS, True, 1)
    this._service.serve(moved)
    write_store(store.root, random_matrix(2, 6), attributes=POSTERS)
    this._service.serve(this._open(state_of(store, 3)))
    assert len(counted) == 2
    store.rollback()  # the one before is open still
    assert (this._open(state_of(store, 4)).image_origins, len(counted)) == (ORIGINS, 2)


def test_a_table_that_cannot_be_adopted_counts_nothing(store, counted):
    this = replica(store, filters={"clean": {"must": [{"key": "nothing", "is_null": False}]}})
    with pytest.raises(InvalidFilter, match="clean"):
        this._open(state_of(store))
    (store.root / "hidden.json").write_text("{")
    with pytest.raises(SimshardError, match=r"hidden\.json"):
        replica(store)._open(state_of(store))
    assert counted == []


@pytest.mark.parametrize("image", ["poster", "nothing", None])
def test_a_snapshot_without_the_column_of_pictures_is_logged(store, counted, caplog, image):
    table = replica(store, image)._open(state_of(store))
    warned = [record.message for record in caplog.records]
    if image == "nothing":
        assert warned == [f"image 'nothing': the items of snapshot {table.name} have no text attribute of that name"]
    else:
        assert warned == []
    assert table.image == (None if image == "nothing" else image)
