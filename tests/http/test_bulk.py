"""Many items at once over HTTP: arrays in, lists out, and what is neither."""

import io

import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.api_client import client_of
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL

NPY = {"content-type": "Application/X-npy; charset=binary"}


MATRIX = random_matrix(5, 40, density=0.7)


def client_for(folder, ids=None):
    store = write_store(folder, MATRIX, shards=3, ids=ids)
    return client_of(service_of(store), store), store


def service_of(store):
    service = Service(Cache(Lru(0), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    return service


def npy(ids):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.array(ids), allow_pickle=True)
    return file.getvalue()


def header(text):
    """A .npy file of this header alone."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


async def test_in_lists_there_is_a_row_for_each_id(tmp_path):
    ids = [f"id {row}" for row in range(len(MATRIX))]
    client, store = client_for(tmp_path, pa.array(ids))
    answer = await client.post("/v1/similar/bulk", json={"ids": ["id 3", "nobody", "id 3"], "limit": 4, "lists": True})
    table = pa.ipc.open_stream(answer.content).read_all()
    assert table.schema.metadata == {b"snapshot": store.resolve().encode()}
    hits = oracle.hits(MATRIX, [oracle.Seed(3)], limit=4)
    row = {"id": "id 3", "neighbors": [ids[row] for row, _ in hits], "scores": [float(score) for _, score in hits]}
    assert table.to_pylist() == [row, {"id": None, "neighbors": None, "scores": None}, row]


@pytest.mark.parametrize("limit", [3, 1000])
async def test_an_array_of_integers_is_taken(tmp_path, limit):
    client, _ = client_for(tmp_path)
    ids = [7, 99, 0, 7, 39]
    answer = await client.post(f"/v1/similar/bulk?limit={limit}", content=npy(ids), headers=NPY)
    by_json = await client.post("/v1/similar/bulk", json={"ids": ids, "limit": limit})
    assert answer.status_code == 200
    assert answer.content == by_json.content
    expected = [(id_, *hit) for id_ in (7, 0, 7, 39) for hit in oracle.hits(MATRIX, [oracle.Seed(id_)], limit=limit)]
    rows = pa.ipc.open_stream(answer.content).read_all().to_pylist()
    assert [(row["id"], row["neighbor"], np.float32(row["score"])) for row in rows] == expected


async def test_what_is_no_array_of_ids_is_refused(tmp_path):
    client, _ = client_for(tmp_path)
    whole = npy([1, 2, 3])
    for body, field in [
        (b"", "body"),
        (b"[1, 2]", "body"),
        (whole[:-1], "body"),
        (whole[:40], "body"),
        (npy([1.5]), "ids"),
        (npy([[1]]), "ids"),
        (npy(7), "ids"),
        (npy(["a"]), "ids"),
        (npy([None]), "ids"),  # a pickle
        (npy(range(1001)), "ids"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,)}"), "body"),
        (header(f"{{'descr': '<i8', 'fortran_order': False, 'shape': ({10**30},)}}"), "body"),
        (header("{'descr': '<i8', 'fortran_order': False, 'shape': (-1,)}"), "body"),
        (header("{'descr': '>i8', 'fortran_order': False, 'shape': (0,)}"), "ids"),
        (header("{'descr': (), 'fortran_order': False, 'shape': (1,)}"), "body"),
        (header("{("), "body"),
        (header("-" * 5000 + "1"), "body"),
    ]:
        answer = await client.post("/v1/similar/bulk?limit=1000", content=body, headers=NPY)
        assert (answer.status_code, answer.json()["field"]) == (422, field), answer.text
    answer = await client.post("/v1/similar/bulk?limit=3", json={"ids": ["id 1"]})
    assert (answer.status_code, answer.json()["field"]) == (422, "limit")


@pytest.mark.parametrize("body", ["9" * 5000, "[" * 100_000, '"\\ud800', "{", "\xff"])
async def test_json_that_cannot_be_read_is_told(tmp_path, body):
    client, _ = client_for(tmp_path)
    for kind in ("application/json", "application/vnd.ids+json", "Application/JSON; charset=utf-8"):
        answer = await client.post("/v1/similar/bulk", content=body.encode("latin-1"), headers={"content-type": kind})
        assert (answer.status_code, answer.json()["title"]) == (400, "Invalid JSON"), answer.text
    answer = await client.post("/v1/similar/bulk", content=b"{}", headers={"content-type": "text/plain;json"})
    assert (answer.status_code, answer.json()["field"]) == (422, "body")


async def test_unknown_ids_beyond_what_json_readers_hold_are_text(tmp_path):
    client, _ = client_for(tmp_path)
    ids = [3, 2**53 + 1]
    by_array = await client.post("/v1/similar/bulk", content=npy(ids), headers=NPY)
    by_json = await client.post("/v1/similar/bulk", json={"ids": ids})
    assert by_array.content == by_json.content
    metadata = pa.ipc.open_stream(by_array.content).read_all().schema.metadata
    assert metadata[b"missing_ids"] == b'["9007199254740993"]'
