"""An application as operators and Ray jobs use it: two replicas, calls to shards, a default filter, hidden items."""

import asyncio
import json
import os
import subprocess
import sys
import time

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of
from tests.support.command import command
from tests.support.server import Server, gcs_address, stop_all, wait_for

COUNT = 90
MATRIX = random_matrix(8, COUNT, density=0.9)
ITEMS = items_of(COUNT, 8)
OVAS = {row for row, item in enumerate(ITEMS) if item["type"] == "OVA"}
SETTINGS = """
default_filter = "clean"
[filters.clean]
must_not = [{ key = "type", match = { value = "OVA" } }]
[filters.recent]
must = [{ key = "year", range = { gte = 1993 } }]
"""
ADMIN = {"authorization": "Bearer adm1n"}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("strict") / "store", MATRIX, shards=2, attributes=columns_of(ITEMS))


@pytest.fixture(scope="module")
def address(cluster):
    return gcs_address(cluster.folder)


@pytest.fixture(scope="module")
def strict(cluster, address, store, tmp_path_factory):
    """A second application of the session's cluster, at /strict: two replicas, one of whose shards is a call away."""
    settings = tmp_path_factory.mktemp("settings") / "settings.toml"
    settings.write_text(SETTINGS)
    options = ("--address", address, "--name", "strict", "--route-prefix", "/strict", "--replicas", "2")
    more = ("--settings", settings, "--redis", "off", "--transport", "actor", "--port", str(cluster.server.port))
    server = Server(store.root, *options, *more, env={"SIMSHARD_ADMIN_KEY": "adm1n"})
    yield server
    stop_all(server)


def expected(row, kept_out=(), **options):
    return oracle.hits(MATRIX, [oracle.Seed(row)], exclude=OVAS | set(kept_out), **options)


def printed(hits):
    return [(hit["id"], np.float32(hit["score"])) for hit in hits]


def similar(server, row, **params):
    answer = httpx.get(f"{server.url}/v1/items/{row}/similar", params=params, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_line_tells_where_the_ray_cluster_is(strict, address):
    assert strict.line.split()[-2:] == ["ray", address]


def test_the_default_filter_and_named_ones(strict):
    for row in range(0, COUNT, 7):
        assert printed(similar(strict, row, limit=50)["hits"]) == expected(row, limit=50)
        recent = {r for r, item in enumerate(ITEMS) if (item["year"] or 0) >= 1993}
        old = set(range(COUNT)) - recent
        assert printed(similar(strict, row, limit=50, filter="recent")["hits"]) == expected(row, old, limit=50)
    found = httpx.get(f"{strict.url}/v1/items?limit=100").json()["items"]
    assert not OVAS & {item["id"] for item in found}


def test_a_batch_over_calls(strict):
    requests = [{"positive": [row, (row + 40) % COUNT], "limit": 7} for row in range(60)] + [{"positive": ["none"]}]
    body = httpx.post(f"{strict.url}/v1/recommend/batch", json={"requests": requests}, timeout=60).json()
    *answers, last = body["responses"]
    for request, answer in zip(requests, answers, strict=False):
        seeds = [oracle.Seed(row) for row in request["positive"]]
        assert printed(answer["hits"]) == oracle.hits(MATRIX, seeds, exclude=OVAS, limit=7)
    assert last["status"] == 404


def hits_of(server, row):
    return {hit["id"] for hit in similar(server, row, limit=100)["hits"]}


@pytest.mark.parametrize("way", ["http", "store", "server"])
def test_a_hidden_item_leaves_every_replica_within_two_seconds(strict, store, way):
    row = {"http": 11, "store": 12, "server": 13}[way]
    seed = next(r for r in range(20, COUNT) if not np.isnan(MATRIX[r, row]) and row not in OVAS)
    shown = row not in OVAS

    def change(hide):
        if way == "http":
            method = "PUT" if hide else "DELETE"
            answer = httpx.request(method, f"{strict.url}/v1/items/{row}/hidden", headers=ADMIN)
            assert answer.status_code == 200
            return
        where = ("--store", store.root) if way == "store" else ("--url", strict.url)
        words = command("items", "hide" if hide else "unhide", row, *where)
        env = {**os.environ, "SIMSHARD_ADMIN_KEY": "adm1n"}
        subprocess.run(words, check=True, capture_output=True, env=env)

    assert (row in hits_of(strict, seed)) == shown
    change(True)
    deadline = time.monotonic() + 2
    time.sleep(max(deadline - time.monotonic(), 0))
    for _ in range(30):  # whichever replica answers
        assert row not in hits_of(strict, seed)
    change(False)
    time.sleep(2)
    for _ in range(10):
        assert (row in hits_of(strict, seed)) == shown


def test_a_damaged_list_of_hidden_items_hides_what_it_hid_and_is_told(strict, store):
    path = store.root / "hidden.json"
    answer = httpx.put(f"{strict.url}/v1/items/14/hidden", headers=ADMIN)
    assert answer.status_code == 200
    time.sleep(1.5)
    good = path.read_bytes()
    path.write_bytes(b"{")
    health = wait_for(lambda: (h := httpx.get(f"{strict.url}/healthz").json())["problem"] and h, 10)
    assert (health["status"], "hidden.json" in health["problem"]) == ("degraded", True)
    for _ in range(10):
        assert 14 not in hits_of(strict, 30)
    path.write_bytes(good)
    wait_for(lambda: all(httpx.get(f"{strict.url}/healthz").json()["status"] == "ok" for _ in range(6)), 10)
    assert httpx.delete(f"{strict.url}/v1/items/14/hidden", headers=ADMIN).status_code == 200


def test_a_page_stays_on_a_snapshot_after_the_switch(strict, store):
    first = store.resolve()
    before = similar(strict, 5, limit=5, offset=5)["hits"]
    turned = MATRIX[::-1, ::-1].copy()
    write_store(store.root, turned, shards=2, attributes=columns_of(ITEMS))
    second = store.resolve()
    wait_for(lambda: all(similar(strict, 5)["snapshot"] == second for _ in range(6)))
    for _ in range(10):
        page = similar(strict, 5, limit=5, offset=5, snapshot=first)
        assert (page["snapshot"], page["hits"]) == (first, before)
    gone = httpx.get(f"{strict.url}/v1/items/5/similar?snapshot=20200101T000000Z-000000")
    assert gone.status_code == 409
    assert httpx.post(f"{strict.url}/v1/snapshots/{first}/activate", headers=ADMIN).json()["active"] == first
    wait_for(lambda: all(similar(strict, 5)["snapshot"] == first for _ in range(6)))


def test_a_snapshot_that_lacks_an_attribute_of_a_filter_is_not_served(strict, store):
    first = store.resolve()
    write_store(store.root, MATRIX, shards=2)
    health = wait_for(lambda: (h := httpx.get(f"{strict.url}/healthz").json())["problem"] and h)
    assert "filter clean.must_not[0].key: no attribute 'type'" in health["problem"]
    assert similar(strict, 5)["snapshot"] == first
    store.activate(first)
    wait_for(lambda: all(httpx.get(f"{strict.url}/healthz").json()["status"] == "ok" for _ in range(6)))


JOB = """
import asyncio, json, sys
from simshard.serve.client import AsyncClient, Client
from simshard.shards.errors import SimshardError, UnknownItem
client = Client.from_app("strict", address=sys.argv[1])
told = {}
told["hits"] = [[hit.id, hit.score] for hit in client.similar(5, limit=6).hits]
told["many"] = client.similar_many(range(90), limit=3).to_pydict()
told["rank"] = [hit.id for hit in client.rank([5], [8, 9, 20]).hits]
told["hidden"] = [client.hide(7).hidden, client.unhide(7).hidden]
try:
    client.similar("none")
except UnknownItem as error:
    told["error"] = str(error)
async def ask():
    async with AsyncClient.from_app("strict") as other:
        return [answer.hits[0].id for answer in await asyncio.gather(*(other.similar(i, limit=1) for i in range(20)))]
told["async"] = asyncio.run(ask())
try:
    Client.from_app("nobody")
except SimshardError as error:
    told["nobody"] = str(error)
print(json.dumps(told))
"""


def run(*words):
    done = subprocess.run([sys.executable, *map(str, words)], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_another_ray_job_asks_over_a_handle(strict, address):
    told = json.loads(run("-c", JOB, address).splitlines()[-1])
    assert [(row, np.float32(score)) for row, score in told["hits"]] == expected(5, limit=6)
    many = [(row, *hit) for row in range(COUNT) for hit in expected(row, limit=3)]
    columns = [told["many"][name] for name in ("id", "neighbor", "score")]
    assert [(id_, row, np.float32(score)) for id_, row, score in zip(*columns, strict=True)] == many
    candidates = set(range(COUNT)) - {8, 9, 20}
    assert told["rank"] == [row for row, _ in expected(5, candidates)]
    assert told["hidden"] == [True, False]
    assert "none" in told["error"]
    assert told["async"] == [expected(row, limit=1)[0][0] for row in range(20)]
    assert "no Serve application 'nobody'" in told["nobody"]


def test_the_example_of_a_second_job(strict, address):
    lines = run("-m", "simshard.examples.second_job", 5, 9, "--address", address, "--app", "strict").splitlines()
    lines = [line for line in lines if "(raylet)" not in line]  # which warns of the many actors of the session
    assert [line.split(": most like")[0] for line in lines[:2]] == ["5", "9"]
    best = oracle.hits(MATRIX, [oracle.Seed(5), oracle.Seed(9)], exclude=OVAS, limit=5)
    assert lines[2:] == [f"next: Title {row}" for row, _ in best]


def test_the_example_of_a_pipeline(strict, address, tmp_path):
    pa.parquet.write_table(pa.table({"id": list(range(COUNT))}), tmp_path / "items.parquet")
    target = tmp_path / "neighbors"
    words = (tmp_path / "items.parquet", target, "--limit", 4, "--address", address, "--app", "strict")
    told = run("-m", "simshard.examples.ray_data", *words)
    many = [(row, rank, *hit) for row in range(COUNT) for rank, hit in enumerate(expected(row, limit=4), 1)]
    assert f"{len(many):,} rows" in told
    rows = pa.parquet.read_table(target).to_pylist()
    found = [(row["id"], row["rank"], row["neighbor"], np.float32(row["score"])) for row in rows]
    assert sorted(found) == sorted(many)


def test_the_same_client_over_http(strict):
    from simshard.serve.client import AsyncClient, Client

    with Client(strict.url) as client:
        assert printed([hit.model_dump() for hit in client.similar(5, limit=6).hits]) == expected(5, limit=6)
        table = client.similar_many(list(range(COUNT)), limit=3)
        assert table.num_rows == sum(len(expected(row, limit=3)) for row in range(COUNT))

    async def ask():
        async with AsyncClient(strict.url) as other:
            return await other.similar(5, limit=6)

    assert [hit.id for hit in asyncio.run(ask()).hits] == [row for row, _ in expected(5, limit=6)]
