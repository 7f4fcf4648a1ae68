"""How snapshots are opened and what is told to be away, over a store on disk and slot actors that are fakes."""

import logging

import pytest
from ray.exceptions import ActorUnavailableError, RayTaskError

from simshard.serve.cluster.rounds import Rounds
from simshard.serve.cluster.slots import NO_ANSWER, VERIFIES
from simshard.shards.errors import CorruptFile
from tests.support.builder import random_matrix, write_store
from tests.support.fake_slots import FakeSlotActors

UNAVAILABLE = ActorUnavailableError("gone", b"\0" * 16)
DAMAGED = CorruptFile("shard-00001: its checksum differs")


class World:
    """A store, the rounds over it and fake slots, and a clock that stands still."""

    def __init__(self, store):
        self.store, self.now = store, 1000.0
        self.restart()

    def restart(self, prepare=None):
        """A new supervisor begins; prepare: see FakeSlotActors."""
        self.actors = FakeSlotActors(prepare or {})
        self.rounds = Rounds(str(self.store.root), 60.0, {}, self.actors, lambda: self.now)

    @property
    def slots(self):
        return self.actors.slots

    def round(self, seconds=0.0):
        self.now += seconds
        self.rounds.round()
        return self.rounds.state


@pytest.fixture
def world(tmp_path):
    return World(write_store(tmp_path, random_matrix(3, 12), shards=3))


@pytest.fixture
def running(world):
    """A world whose first snapshot is open."""
    world.first = world.store.resolve()
    assert world.round().snapshot == world.first
    return world


def another(world, shards=3):
    """One more snapshot, now the active one."""
    write_store(world.store.root, random_matrix(4, 12), shards=shards)
    return world.store.resolve()


def test_the_first_round_starts_the_slots_and_opens_the_snapshot(world):
    state = world.round()
    assert state.snapshot == world.store.resolve()
    assert [held.path for held in state.held] == [f"{state.snapshot}/{slot}" for slot in range(3)]
    assert (state.version, state.problem, state.waits, state.away) == (1, None, None, {})
    assert [slot.opens() for slot in world.slots] == [[state.snapshot]] * 3
    assert world.round(0.5) == state  # all well changes nothing
    assert [slot.opens() for slot in world.slots] == [[state.snapshot]] * 3
    assert world.rounds.pause == 0.5


@pytest.mark.parametrize("how", ["late", "fault"])
def test_an_actor_that_does_not_answer_is_away_until_it_does(running, how, caplog):
    slot = running.slots[1]
    if how == "late":
        slot.late = {"all"}
    else:
        slot.faults["held"] = UNAVAILABLE
    for _ in range(3):
        state = running.round(0.5)
        assert (state.away, state.version) == ({1: NO_ANSWER}, 1)
    assert len(running.actors.cancelled) == 3 * (how == "late")
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == [
        "away: the actor of shard 1 (no answer)"
    ]
    slot.late, slot.faults = set(), {}
    assert running.round(0.5).away == {}


def test_a_restarted_actor_that_verifies_holds_nothing_up(running):
    slow, other = running.slots[0], running.slots[2]
    slow.there, slow.late, slow.node = {}, {"open"}, "node-9"
    state = running.round()
    assert (state.away, state.version) == ({0: VERIFIES}, 1)
    assert running.rounds.pause == 0.05
    other.there = {}  # the next one is opened while the first still verifies
    state = running.round()
    assert (state.away, other.opens()) == ({0: VERIFIES}, [running.first] * 2)
    assert slow.opens() == [running.first] * 2  # at the start, and now once
    slow.late = set()
    state = running.round()
    assert (state.away, state.version, state.held[0].node) == ({}, 2, "node-9")


def test_a_restarted_actor_that_cannot_open_tells_why_and_tries_again_later(running, caplog):
    slot = running.slots[1]
    slot.there, slot.faults = {}, {running.first: DAMAGED}
    for _ in range(3):
        state = running.round(0.5)
        assert (state.snapshot, state.away) == (running.first, {1: str(DAMAGED)})
    assert slot.opens() == [running.first] * 2
    slot.late = {"open"}
    assert running.round(10).away == {1: str(DAMAGED)}  # while it is tried again
    assert slot.opens() == [running.first] * 3
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 1
    slot.late, slot.faults = set(), {}
    assert running.round().away == {}


def test_the_error_of_an_actor_is_told_in_its_own_words(running):
    first, second = running.slots[:2]
    for slot, cause in ((first, DAMAGED), (second, MemoryError("no more"))):
        slot.there, slot.faults = {}, {running.first: RayTaskError("open", "Traceback ...", cause)}
    assert running.round().away == {0: str(DAMAGED), 1: "MemoryError: no more"}


def test_a_switch_waits_for_every_slot_and_tells_so_while_the_old_snapshot_is_followed(running):
    hung, verifies, restarted = running.slots
    name = another(running)
    hung.late, verifies.late = {"all"}, {"open"}
    for _ in range(2):
        state = running.round(0.5)
        assert (state.snapshot, state.version, state.problem) == (running.first, 1, None)
        assert state.waits == (
            f"snapshot {name} waits for the actor of shard 0 (no answer), the actor of shard 1 (verifying its file)"
        )
        assert state.away == {0: NO_ANSWER}
    restarted.there = {}
    assert running.round().away == {0: NO_ANSWER}  # the snapshot that is served comes first
    verifies.late = set()
    state = running.round()
    assert state.waits == f"snapshot {name} waits for the actor of shard 0 (no answer)"
    hung.late = set()
    state = running.round()
    state = running.round()
    assert (state.snapshot, state.waits, state.away, state.version) == (name, None, {}, 2)
    assert [held.path for held in state.held] == [f"{name}/{slot}" for slot in range(3)]


def test_the_newest_snapshot_wins_and_a_slot_opens_one_after_the_other(running):
    slow = running.slots[0]
    slow.late = {"open"}
    second = another(running)
    assert second in running.round().waits
    third = another(running, shards=2)
    assert third in running.round().waits
    assert slow.opens() == [running.first, second]
    slow.late = set()
    running.round()
    state = running.round()
    assert (state.snapshot, len(state.held), slow.opens()) == (third, 2, [running.first, second, third])
    running.store.activate(running.first)  # open still
    state = running.round()
    assert (state.snapshot, slow.opens()) == (running.first, [running.first, second, third])
    assert all(third in slot.there for slot in running.slots[:2])
    running.round(71)
    assert [set(slot.there) for slot in running.slots] == [{running.first}] * 3


def test_going_back_while_another_opens_needs_nothing(running):
    running.slots[0].late = {"open"}
    assert another(running) in running.round().waits
    running.store.activate(running.first)
    state = running.round()
    assert (state.snapshot, state.waits, state.away, state.version) == (running.first, None, {}, 1)


def test_a_snapshot_that_a_slot_refuses_leaves_the_old_one_and_is_tried_again(running, caplog):
    name = another(running)
    damaged, hung = running.slots[1:]
    damaged.faults, hung.late = {name: DAMAGED}, {"all"}
    for _ in range(3):
        state = running.round(0.5)
        assert (state.snapshot, state.waits) == (running.first, None)
        assert state.problem == f"snapshot {name} cannot be opened: {DAMAGED}"
        assert state.away == {2: NO_ANSWER}
    assert damaged.opens() == [running.first, name]
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [state.problem]
    hung.late, damaged.faults = set(), {}
    running.round(10)
    state = running.round(0.5)
    assert (state.snapshot, state.problem, state.away) == (name, None, {})
    assert damaged.opens() == [running.first, name, name]
    assert running.slots[0].opens() == [running.first, name]


def test_damaged_items_are_refused_before_any_slot_opens_them(running):
    name = another(running)
    with open(running.store.snapshots / name / "items.arrow", "ab") as file:
        file.write(b"x")
    state = running.round()
    assert (state.snapshot, "items.arrow" in state.problem) == (running.first, True)
    assert running.slots[0].opens() == [running.first]
    running.store.activate(running.first)
    assert running.round().problem is None


def test_a_new_supervisor_beside_a_hung_actor_tells_what_it_waits_for(running):
    old = running.slots
    old[2].late = {"all"}
    running.restart({slot: lambda fresh: vars(fresh).update(vars(old[fresh.shard])) for slot in range(3)})
    state = running.round()
    assert (state.snapshot, state.away) == (None, {2: NO_ANSWER})
    assert state.waits == f"snapshot {running.first} waits for the actor of shard 2 (no answer)"
    running.slots[2].late = set()
    state = running.round()
    assert (state.snapshot, state.away, state.waits) == (running.first, {}, None)


def test_what_an_earlier_supervisor_left_open_is_closed_in_the_end(running):
    running.slots[0].there["20200101T000000Z-abcdef"] = None
    running.round()
    assert len(running.slots[0].there) == 2
    running.round(69)
    assert len(running.slots[0].there) == 2
    running.round(2)
    assert list(running.slots[0].there) == [running.first]


def test_an_actor_beyond_the_shards_of_the_snapshot_is_none_of_its_shards(running):
    name = another(running, shards=2)
    running.slots[2].late = {"all"}
    state = running.round()
    assert (state.snapshot, state.away) == (name, {})


def test_a_store_that_cannot_be_read_is_told_and_changes_nothing_else(running):
    pointer = running.store.root / "current.json"
    text = pointer.read_text()
    pointer.write_text("{")
    state = running.round()
    assert (state.snapshot, "current.json" in state.problem) == (running.first, True)
    pointer.write_text(text)
    assert running.round().problem is None
