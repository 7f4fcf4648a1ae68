"""Keeps shard actors as they should be; opens a snapshot everywhere, then lets the routers switch.

One detached actor for each served store. The store's `current.json` is the only truth: a loop compares it with what is
open. A snapshot becomes `State.snapshot` once every slot actor has verified and opened it; one that fails to open
leaves the old one serving and is tried again later. When no replica has asked for the state for a while, the Serve
application is gone, and the supervisor ends its actors and itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from simshard.shards.actor import CONTROL, Held, ShardActor
from simshard.shards.errors import SimshardError
from simshard.shards.filters import check_filters
from simshard.shards.items import Items
from simshard.shards.manifest import verify_file
from simshard.shards.store import Store

NAMESPACE = "simshard"
Log = logging.getLogger("simshard.supervisor")

_PERIOD = 0.5
_OPEN_TIMEOUT = 600.0
_CALL_TIMEOUT = 5.0
_GRACE = 10.0  # beyond what replicas keep it open: a request that began with the old snapshot must be able to finish
_RETRY = 10.0  # before a snapshot that failed to open is tried again
_LEASE = 60.0  # without a question from any replica


@dataclass(frozen=True)
class State:
    """What routers follow of a store: the snapshot that is open everywhere, where its shards are, what went wrong.

    away: shards whose actor did not answer the last question, or has to open the snapshot again. `version` grows with
    every change of the others; this one needs nothing to be opened anew.
    """

    store: str
    version: int = 0
    snapshot: str | None = None
    held: tuple[Held | None, ...] = ()
    problem: str | None = None
    away: tuple[int, ...] = ()


def supervisor_name(app: str) -> str:
    """The Ray actor that supervises an application's store."""
    return f"{app}-supervisor"


def slot_name(app: str, slot: int) -> str:
    """The Ray actor that holds shard `slot`."""
    return f"{app}-slot-{slot}"


def get_supervisor(app: str, store: str, keep_open: float, filters: Mapping[str, Any]) -> Any:
    """The application's supervisor, started if there is none. Blocks; keep it off an event loop.

    keep_open: seconds that a snapshot stays open after another took its place; filters: named ones that a snapshot has
    to fit before it is opened.
    """
    return (
        ray.remote(Supervisor)
        .options(
            name=supervisor_name(app),
            namespace=NAMESPACE,
            lifetime="detached",
            get_if_exists=True,
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=3,
            max_concurrency=8,
        )
        .remote(app, store, keep_open, filters)
    )


class Supervisor:
    """The actor; its loop runs in a thread."""

    def __init__(self, app: str, store: str, keep_open: float, filters: Mapping[str, Any]) -> None:
        self._app = app
        self._filters = filters
        self._keep_open = keep_open + _GRACE
        self._path = store
        self._store = Store(store)
        self._state = State(store)
        self._slots: list[Any] = []
        self._closing: dict[str, float] = {}
        self._failed: tuple[str, float] | None = None
        self._asked = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="reconcile")
        self._thread.start()

    def state(self) -> State:
        """The current state; asking is what keeps the supervisor alive."""
        self._asked = time.monotonic()
        return self._state

    def end(self) -> None:
        """End the shard actors; the caller then ends this actor."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_CALL_TIMEOUT)
        for actor in self._slots:
            ray.kill(actor, no_restart=True)
        self._slots = []

    def _run(self) -> None:
        while not self._ended.wait(_PERIOD if self._state.snapshot else 0.05):
            try:
                self._reconcile()
            except Exception as error:  # the loop must outlive whatever Ray or the store comes up with
                Log.exception("reconcile")
                self._change(problem=f"{type(error).__name__}: {error}")
            if time.monotonic() - self._asked > _LEASE:
                self.end()
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _change(self, **fields: Any) -> None:
        new = {**vars(self._state), **fields}
        if new != vars(self._state):
            self._state = State(**{**new, "version": self._state.version + 1})

    def _reconcile(self) -> None:
        wanted: str | None
        try:
            wanted = self._store.resolve()
        except SimshardError as error:
            self._change(problem=str(error))
            wanted = self._state.snapshot
        current = self._state.snapshot
        if wanted and wanted != current and not self._waits(wanted):
            self._switch(wanted)
        elif current:
            self._refresh(current)
            if wanted == current and self._failed is None:
                self._change(problem=None)
        if wanted == current:
            self._failed = None
        for name, when in list(self._closing.items()):
            if time.monotonic() > when:
                del self._closing[name]
                for actor in self._slots:
                    actor.close.options(concurrency_group=CONTROL).remote(name)

    def _waits(self, name: str) -> bool:
        return self._failed is not None and self._failed[0] == name and time.monotonic() < self._failed[1]

    def _switch(self, name: str) -> None:
        try:
            manifest = self._store.manifest(name)
            for info in manifest.item_files:  # the actors verify their shards
                verify_file(self._store.snapshots / name, info)
            check_filters(Items(self._store.snapshots / name), self._filters)
            shards = len(manifest.shards)
            while len(self._slots) < shards:
                self._slots.append(self._start(len(self._slots)))
            held = self._open(name)
        except SimshardError as error:
            self._failed = (name, time.monotonic() + _RETRY)
            self._change(problem=f"snapshot {name} cannot be opened: {error}")
            Log.error("%s", self._state.problem)
            return
        old = self._state.snapshot
        self._closing.pop(name, None)
        if old:
            self._closing[old] = time.monotonic() + self._keep_open
        self._failed = None
        self._change(snapshot=name, held=held[:shards], problem=None, away=())

    def _start(self, slot: int) -> Any:
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
            .remote(self._path, slot)
        )

    def _open(self, name: str) -> tuple[Held | None, ...]:
        refs = [actor.open.options(concurrency_group=CONTROL).remote(name) for actor in self._slots]
        try:
            return tuple(ray.get(refs, timeout=_OPEN_TIMEOUT))
        except RayTaskError as error:
            if isinstance(error.cause, SimshardError):
                raise error.cause from error
            raise SimshardError(str(error.cause)) from error
        except RayError as error:
            raise SimshardError(f"a shard actor is away ({type(error).__name__})") from error

    def _refresh(self, name: str) -> None:
        """Open the snapshot again in actors that were restarted; learn where they are now, and which are away."""
        slots = range(len(self._slots))
        open_ = self._ask(slots, _CALL_TIMEOUT, "held")
        restarted = [slot for slot in open_ if name not in open_[slot]]
        self._away({*slots} - {*open_} | {*restarted})
        if not restarted:
            return
        again = self._ask(restarted, _OPEN_TIMEOUT, "open", name)
        self._change(held=tuple(again.get(slot, held) for slot, held in enumerate(self._state.held)))
        self._away({*slots} - {*open_} | {*restarted} - {*again})

    def _ask(self, slots: Sequence[int], timeout: float, method: str, *arguments: Any) -> dict[int, Any]:
        """What each of these slots answers, by slot, all within `timeout` seconds; those that do not are left out."""
        if not slots:
            return {}
        actors = {slot: getattr(self._slots[slot], method).options(concurrency_group=CONTROL) for slot in slots}
        refs = {slot: actor.remote(*arguments) for slot, actor in actors.items()}
        ready, late = ray.wait(list(refs.values()), num_returns=len(refs), timeout=timeout)
        for ref in late:  # those behind a stuck one must not pile up
            ray.cancel(ref)
        answers = {}
        for slot, ref in refs.items():
            try:
                if ref in ready:
                    answers[slot] = ray.get(ref)
            except (RayError, SimshardError) as error:
                Log.warning("the actor of shard %d is away: %s", slot, error)
        return answers

    def _away(self, slots: set[int]) -> None:
        """Tell which actors of the snapshot's shards are away, in a state of the same version."""
        away = tuple(sorted(slot for slot in slots if slot < len(self._state.held)))
        self._state = replace(self._state, away=away)
