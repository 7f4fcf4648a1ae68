"""A server of a store in a bucket: it follows what changes there, changes it, and goes on while the bucket is away."""

import httpx
import pytest

from simshard.shards.bucket_store import BucketStore
from simshard.shards.copies import send
from simshard.shards.hidden import change_hidden, read_hidden
from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.progress import QUIET
from tests.support.s3 import BUCKET, FaultyRelay, running_s3
from tests.support.server import wait_for
from tests.support.serving import serving, started

MATRICES = [random_matrix(seed, 60) for seed in range(2)]
ADMIN = {"Authorization": "Bearer adm1n"}


@pytest.fixture
def s3(tmp_path):
    with running_s3(SIMSHARD_CACHE_DIR=str(tmp_path / "cache")) as server:
        yield server


def check(server, snapshot, matrix, hidden=()):
    for row in range(0, 60, 7):
        body = httpx.get(f"{server.url}/v1/items/{row}/similar?limit=5").json()
        assert body["snapshot"] == snapshot
        expected = oracle.hits(matrix, [oracle.Seed(row)], exclude=[row, *hidden], limit=5)
        assert [(hit["id"], pytest.approx(hit["score"])) for hit in body["hits"]] == expected


@pytest.mark.last
def test_it_follows_the_bucket_and_does_without_it(s3, tmp_path):
    uri = f"s3://{BUCKET}/shop/store"
    local, there = write_store(tmp_path / "built", MATRICES[0]), BucketStore(uri)
    first = local.resolve()
    send(local, first, there, QUIET)
    there.activate(first)
    relay = FaultyRelay(s3.port, 0.0, ("500",))
    environment = s3.environment(relay.url) | {"SIMSHARD_ADMIN_KEY": "adm1n"}
    with started(uri, "--redis", "off", env=environment) as server:
        check(server, first, MATRICES[0])
        write_store(local.root, MATRICES[1])
        second = local.resolve()
        send(local, second, there, QUIET)
        there.activate(second)
        wait_for(lambda: serving(server.url)["snapshot"] == second, 30)
        check(server, second, MATRICES[1])
        assert httpx.put(f"{server.url}/v1/items/3/hidden", headers=ADMIN).json()["hidden"]
        assert 3 in read_hidden(there)
        check(server, second, MATRICES[1], hidden=[3])
        change_hidden(there, 5, True)
        wait_for(lambda: serving(server.url)["hidden"] == 2, 30)
        check(server, second, MATRICES[1], hidden=[3, 5])
        relay.share = 1.0  # the bucket answers with faults alone
        wait_for(lambda: serving(server.url)["status"] == "degraded", 60)
        assert "s3://data/shop/store" in serving(server.url)["problem"]
        check(server, second, MATRICES[1], hidden=[3, 5])
        refused = httpx.put(f"{server.url}/v1/items/7/hidden", headers=ADMIN, timeout=120)
        assert refused.status_code == 500 and uri in refused.json()["detail"]
        relay.share = 0.0
        wait_for(lambda: serving(server.url)["status"] == "ok", 60)
        assert httpx.post(f"{server.url}/v1/snapshots/rollback", headers=ADMIN).json()["active"] == first
        wait_for(lambda: serving(server.url)["snapshot"] == first, 30)
        check(server, first, MATRICES[0], hidden=[3, 5])
    relay.close()
    assert there.pointer().active == first
