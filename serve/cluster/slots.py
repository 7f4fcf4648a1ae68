"""The actors that hold shards, as the supervisor sees them: none is waited for long, and why one is away is told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, cast

import ray
from ray.exceptions import RayError, RayTaskError

from simshard.shards.actor import CONTROL, Held, ShardActor
from simshard.shards.errors import SimshardError

NAMESPACE = "simshard"
NO_ANSWER = "no answer"
VERIFIES = "verifying its file"
RETRY = 10.0  # before a snapshot that could not be opened is tried again

_CALL_TIMEOUT = 5.0
_BRIEFLY = 0.2  # what an `open` may take of a round; one that takes longer is looked at in the next

Holding = dict[int, dict[str, Held | None]]


def slot_name(app: str, slot: int) -> str:
    """The Ray actor that holds shard `slot`."""
    return f"{app}-slot-{slot}"


def told(away: Mapping[int, str]) -> str:
    """Slots and why they are away, for people: `the actors of shards 0, 2 (no answer), the actor of shard 1 (...)`."""
    slots: dict[str, list[int]] = {}
    for slot, reason in sorted(away.items()):
        slots.setdefault(reason, []).append(slot)
    return ", ".join(
        f"the actor{'s' * (len(each) > 1)} of shard{'s' * (len(each) > 1)} {', '.join(map(str, each))} ({reason})"
        for reason, each in slots.items()
    )


class SlotActors:
    """What is asked of Ray about the slot actors of an application; a handle is Ray's, and so is a reference."""

    def __init__(self, app: str, store: str) -> None:
        self._app = app
        self._store = store

    def start(self, slot: int) -> Any:
        """The handle of a slot's actor, which is started if it is not there."""
        return (
            ray.remote(num_cpus=0, concurrency_groups={CONTROL: 2})(ShardActor)
            .options(
                name=slot_name(self._app, slot),
                namespace=NAMESPACE,
                lifetime="detached",
                get_if_exists=True,
                max_restarts=-1,
                max_task_retries=0,
                max_concurrency=4,
                scheduling_strategy="SPREAD",
            )
            .remote(self._store, slot)
        )

    def call(self, actor: Any, method: str, *arguments: Any) -> Any:
        """A reference to what a method of an actor will answer."""
        return getattr(actor, method).options(concurrency_group=CONTROL).remote(*arguments)

    def ready(self, refs: Collection[Any], timeout: float) -> Collection[Any]:
        """Those whose answers are there, once all are or the seconds are over."""
        ready, _ = ray.wait(list(refs), num_returns=len(refs), timeout=timeout)
        return cast("list[Any]", ready)

    def get(self, ref: Any) -> Any:
        """An answer. Raises what the actor raised, as RayTaskError, and RayError where it is away."""
        return ray.get(ref)

    def cancel(self, ref: Any) -> None:
        """Let nobody answer this any more."""
        ray.cancel(ref)

    def kill(self, actor: Any) -> None:
        """End an actor for good."""
        ray.kill(actor, no_restart=True)


class Slots:
    """Slot actor i holds shard i of every open snapshot.

    A slot opens one snapshot at a time: a second `open` would verify the file twice, or leave no thread for `held`.
    """

    def __init__(self, actors: SlotActors, clock: Callable[[], float]) -> None:
        self._ray = actors
        self._clock = clock
        self._actors: list[Any] = []
        self._opening: dict[int, tuple[str, Any]] = {}
        self._refused: dict[tuple[int, str], tuple[float, SimshardError]] = {}

    @property
    def opening(self) -> bool:
        """Whether any slot has yet to answer that it opened a snapshot."""
        return bool(self._opening)

    def round(self, wanted: Mapping[str, int]) -> Holding:
        """What each slot that answers holds, by snapshot, once those that lack one of `wanted` were told to open it.

        wanted: the snapshots with their numbers of shards, the most urgent first; slots are started for all of them.
        """
        self._refused = {key: each for key, each in self._refused.items() if key[1] in wanted}
        while len(self._actors) < max(wanted.values(), default=0):
            self._actors.append(self._ray.start(len(self._actors)))
            self._open(len(self._actors) - 1, wanted, {})  # at once: start-up waits for it
        holding = self._held()
        for slot, there in holding.items():
            self._open(slot, wanted, there)
        self._collect(holding)
        return holding

    def missing(self, name: str, shards: int, holding: Holding) -> dict[int, str]:
        """The slots of a snapshot's shards that do not hold it, and why."""
        lacking = [slot for slot in range(shards) if name not in holding.get(slot, ())]
        return {slot: self._reason(slot, name) if slot in holding else NO_ANSWER for slot in lacking}

    def check(self, name: str) -> None:
        """Return if no slot has refused to open a snapshot. Raises what the slot raised."""
        for (slot, refused), (_, error) in self._refused.items():
            if refused == name and self._opening.get(slot, ("",))[0] != name:
                raise error

    def close(self, name: str) -> None:
        """Let every slot let go of a snapshot."""
        for actor in self._actors:
            self._ray.call(actor, "close", name)

    def end(self) -> None:
        """End the actors."""
        for actor in self._actors:
            self._ray.kill(actor)
        self._actors = []

    def _held(self) -> Holding:
        """What each slot holds; those that do not answer within `_CALL_TIMEOUT` for all are left out."""
        refs = {slot: self._ray.call(actor, "held") for slot, actor in enumerate(self._actors)}
        if not refs:
            return {}
        ready = self._ray.ready(refs.values(), _CALL_TIMEOUT)
        holding = {}
        for slot, ref in refs.items():
            if ref not in ready:
                self._ray.cancel(ref)  # those behind a stuck one must not pile up
                continue
            try:
                holding[slot] = dict(self._ray.get(ref))
            except (RayError, SimshardError):
                continue  # it is away, and told to be
        return holding

    def _open(self, slot: int, wanted: Mapping[str, int], there: Mapping[str, Any]) -> None:
        """Let a slot open the first snapshot that it lacks, unless it opens one already or has just failed to."""
        if slot in self._opening:
            return
        for name, shards in wanted.items():
            again, _ = self._refused.get((slot, name), (0.0, None))
            if slot < shards and name not in there and self._clock() >= again:
                self._opening[slot] = name, self._ray.call(self._actors[slot], "open", name)
                return

    def _collect(self, holding: Holding) -> None:
        """Add what was opened meanwhile; note what could not be."""
        refs = [ref for _, ref in self._opening.values()]
        if not refs:
            return
        ready = self._ray.ready(refs, _BRIEFLY)
        for slot, (name, ref) in list(self._opening.items()):
            if ref not in ready:
                continue
            del self._opening[slot]
            try:
                holding.setdefault(slot, {})[name] = self._ray.get(ref)
                self._refused.pop((slot, name), None)
            except (RayTaskError, SimshardError) as error:
                self._refused[slot, name] = self._clock() + RETRY, _cause(error)
            except RayError:
                continue  # the actor went; whether it is back is what `held` tells

    def _reason(self, slot: int, name: str) -> str:
        refused = self._refused.get((slot, name))
        return str(refused[1]) if refused else VERIFIES


def _cause(error: Exception) -> SimshardError:
    """What an actor raised, without Ray's words, which are those of a traceback."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    return cause if isinstance(cause, SimshardError) else SimshardError(f"{type(cause).__name__}: {cause}")
