"""/healthz of a replica, and how the supervisor learns which shard actors are away, without Ray."""

from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from ray.exceptions import ActorUnavailableError

from simshard.serve import supervisor
from simshard.serve.answers import Health
from simshard.serve.api import build_api
from simshard.serve.cache import Cache, Lru
from simshard.serve.health import describe_health
from simshard.serve.router import local_table
from simshard.serve.service import Service
from simshard.serve.supervisor import State, Supervisor
from simshard.shards.actor import Held
from simshard.shards.errors import CorruptFile
from simshard.shards.store import Snapshot
from tests.builder import random_matrix, write_store
from tests.test_router import POOL, actor_table

HELD = tuple(Held(f"node-{slot % 2}", f"host-{slot % 2}", f"shard-{slot}", slot, 1, 1) for slot in range(3))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("health"), random_matrix(3, 12), shards=3)


async def health_of(store, state, problem=None, table=True, remote=False):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    if table:
        service.table = local_table(Snapshot(store), POOL)
        if remote:
            service.table = actor_table(service.table)
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
    [((1,), "the actor of shard 1 does not answer"), ((0, 2), "the actors of shards 0, 2 do not answer")],
)
async def test_an_actor_that_is_away_degrades_and_is_named(store, away, words):
    state = State(str(store.root), 1, store.resolve(), HELD, away=away)
    status, body = await health_of(store, state)
    assert (status, body["status"], body["problem"]) == (200, "degraded", words)
    assert [shard["shard"] for shard in body["shards"] if shard["state"] == "away"] == list(away)
    _, body = await health_of(store, state, "hidden.json is damaged")
    assert body["problem"] == f"hidden.json is damaged; {words}"


async def test_before_there_is_a_snapshot_and_while_the_supervisor_is_new(store):
    status, body = await health_of(store, State("x"), "not yet", table=False)
    assert (status, body["status"], body["shards"], body["problem"]) == (503, "unavailable", [], "not yet")
    _, body = await health_of(store, State("x"))
    assert [(shard["host"], shard["node"], shard["state"]) for shard in body["shards"]] == [(None, None, "ok")] * 3


class Slot:
    """A slot actor as the supervisor sees it: methods with `.options().remote()`, whose references are callables."""

    def __init__(self, held):
        self.answer, self.open_ = held, {"snapshot": held}
        self.fault, self.late, self.asked = None, False, []

    def _method(self, name, call):
        def remote(*arguments):
            self.asked.append(name)
            return SimpleNamespace(slot=self, late=self.late, fault=self.fault, call=lambda: call(*arguments))

        return SimpleNamespace(options=lambda **_: SimpleNamespace(remote=remote))

    @property
    def held(self):
        return self._method("held", lambda: self.open_)

    @property
    def open(self):
        return self._method("open", lambda name: self.open_.setdefault(name, self.answer))


@pytest.fixture
def slots(monkeypatch):
    cancelled = []

    def wait(refs, num_returns, timeout):
        assert num_returns == len(refs)
        assert timeout > 0
        return [ref for ref in refs if not ref.late], [ref for ref in refs if ref.late]

    def get(ref):
        assert not ref.late
        if ref.fault is not None:
            raise ref.fault
        return ref.call()

    monkeypatch.setattr(supervisor, "ray", SimpleNamespace(wait=wait, get=get, cancel=cancelled.append))
    slots = [Slot(held) for held in HELD]
    slots.append(Slot(None))  # of an earlier snapshot with more shards
    return SimpleNamespace(slots=slots, cancelled=cancelled)


def of(slots):
    """A supervisor of these slots, whose thread was never started."""
    this = object.__new__(Supervisor)
    this._slots = slots
    this._state = State("store", 5, "snapshot", HELD)
    return this


UNAVAILABLE = ActorUnavailableError("gone", b"\0" * 16)


def test_all_well_changes_nothing(slots):
    this = of(slots.slots)
    before = this._state
    this._refresh("snapshot")
    assert this._state == before
    assert all(slot.asked == ["held"] for slot in slots.slots)


@pytest.mark.parametrize("how", ["late", "fault"])
def test_an_actor_that_does_not_answer_is_away_until_it_does(slots, how):
    this = of(slots.slots)
    setattr(slots.slots[1], how, {"late": True, "fault": UNAVAILABLE}[how])
    this._refresh("snapshot")
    assert this._state == replace(State("store", 5, "snapshot", HELD), away=(1,))  # of the same version
    assert len(slots.cancelled) == (how == "late")
    assert [slot.asked for slot in slots.slots] == [["held"]] * 4
    setattr(slots.slots[1], how, None)
    this._refresh("snapshot")
    assert this._state == State("store", 5, "snapshot", HELD)


def test_a_restarted_actor_opens_again_beside_one_that_is_away(slots):
    this = of(slots.slots)
    moved = Held("node-9", "host-9", "shard-0", 0, 1, 1)
    slots.slots[0].open_, slots.slots[0].answer = {}, moved
    slots.slots[2].fault = UNAVAILABLE
    this._refresh("snapshot")
    assert this._state.held == (moved, *HELD[1:])
    assert (this._state.away, this._state.version) == ((2,), 6)
    assert [slot.asked for slot in slots.slots] == [["held", "open"], ["held"], ["held"], ["held"]]


def test_a_restarted_actor_is_away_while_and_when_it_cannot_open(slots):
    this = of(slots.slots)
    slot = slots.slots[0]
    slot.open_ = {}
    meanwhile = []

    class Damaged(Slot):
        @property
        def open(self):
            def call(_):
                meanwhile.append(this._state.away)
                raise CorruptFile("shard-0: its checksum differs")

            return self._method("open", call)

    slot.__class__ = Damaged
    this._refresh("snapshot")
    assert (meanwhile, this._state.away, this._state.held) == ([(0,)], (0,), HELD)


def test_an_actor_beyond_the_shards_of_the_snapshot_is_none_of_its_shards(slots):
    this = of(slots.slots)
    slots.slots[3].fault = UNAVAILABLE
    this._refresh("snapshot")
    assert this._state.away == ()
