"""/healthz of a replica, without Ray."""

import httpx
import pytest

from simshard.serve.cluster.health_report import describe_health
from simshard.serve.cluster.rounds import State
from simshard.serve.cluster.slots import NO_ANSWER, VERIFIES
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.api import build_api
from simshard.serve.schema.answers import Health
from simshard.shards.actor import Held
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL, actor_table

HELD = tuple(Held(f"node-{slot % 2}", f"shard-{slot}", slot, 1, 1, f"host-{slot % 2}") for slot in range(3))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("health"), random_matrix(3, 12), shards=3)


async def health_of(store, state, problem=None, table=True, remote=False):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    if table:
        service.serve(local_table(Snapshot(store), POOL))
        if remote:
            service.serve(actor_table(service.table))
    app = build_api(service, store, None, lambda: describe_health(service, state, problem))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test") as client:
        answer = await client.get("/healthz")
        Health.model_validate(answer.json(), strict=True)
        return answer.status_code, answer.json()


async def test_shards_tell_where_they_are(store):
    state = State(str(store.root), 1, store.resolve(), HELD)
    status, body = await health_of(store, state)
    assert (status, body["status"], body["problem"]) == (200, "ok", None)
    manifest = store.manifest()
    assert body["shards"] == [
        {
            "shard": shard,
            "row_start": info.row_start,
            "row_stop": info.row_stop,
            "bytes": info.bytes,
            "transport": "local",
            "host": f"host-{shard % 2}",
            "node": f"node-{shard % 2}",
            "state": "ok",
        }
        for shard, info in enumerate(manifest.shards)
    ]
    _, body = await health_of(store, state, remote=True)
    assert {shard["transport"] for shard in body["shards"]} == {"actor"}


@pytest.mark.parametrize(
    ("away", "words"),
    [
        ({1: NO_ANSWER}, "away: the actor of shard 1 (no answer)"),
        ({2: NO_ANSWER, 0: NO_ANSWER}, "away: the actors of shards 0, 2 (no answer)"),
        (
            {0: "shard-0: checksum differs", 1: VERIFIES, 2: VERIFIES},
            "away: the actor of shard 0 (shard-0: checksum differs), the actors of shards 1, 2 (verifying its file)",
        ),
    ],
)
async def test_an_actor_that_is_away_degrades_and_is_named_with_the_reason(store, away, words):
    state = State(str(store.root), 1, store.resolve(), HELD, away=away)
    status, body = await health_of(store, state)
    assert (status, body["status"], body["problem"]) == (200, "degraded", words)
    assert [shard["shard"] for shard in body["shards"] if shard["state"] == "away"] == sorted(away)
    _, body = await health_of(store, state, "hidden.json is damaged")
    assert body["problem"] == f"hidden.json is damaged; {words}"


async def test_before_there_is_a_snapshot_and_while_the_supervisor_is_new(store):
    status, body = await health_of(store, State("x"), "not yet", table=False)
    assert (status, body["status"], body["shards"], body["problem"]) == (503, "unavailable", [], "not yet")
    _, body = await health_of(store, State("x", waits="snapshot s waits"), table=False)
    assert (body["status"], body["problem"]) == ("unavailable", "snapshot s waits")
    _, body = await health_of(store, State("x", away={1: NO_ANSWER}, waits="snapshot s waits"))
    assert (body["status"], body["problem"]) == (
        "degraded",
        "snapshot s waits; the supervisor is opening the snapshot again",
    )
    assert [shard["state"] for shard in body["shards"]] == ["ok", "away", "ok"]
    status, body = await health_of(store, State("x"))
    assert (status, body["status"]) == (200, "degraded")
    assert [(shard["host"], shard["node"], shard["state"]) for shard in body["shards"]] == [(None, None, "ok")] * 3


async def test_what_the_active_snapshot_waits_for_degrades(store):
    state = State(str(store.root), 1, store.resolve(), HELD, waits="snapshot s waits for the actor of shard 1")
    _, body = await health_of(store, state)
    assert (body["status"], body["problem"]) == ("degraded", state.waits)
