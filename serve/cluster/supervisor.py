"""Keeps shard actors as they should be; opens a snapshot everywhere, then lets the routers switch.

One detached actor for each served store. The store's `current.json` is the only truth: a loop compares it with what is
open, round by round, and no actor holds a round up for long. A snapshot becomes `State.snapshot` once every slot actor
of its shards has verified and opened it; one that fails to open leaves the old one serving and is tried again later.
When no replica has asked for the state for a while, the Serve application is gone, and the supervisor ends its actors
and itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import ray

from simshard.serve.cluster.slots import NAMESPACE, RETRY, Holding, Slots, told
from simshard.shards.actor import Held
from simshard.shards.errors import SimshardError
from simshard.shards.filters import check_filters
from simshard.shards.items import Items
from simshard.shards.manifest import verify_file
from simshard.shards.store import Store

Log = logging.getLogger("simshard.supervisor")

_PERIOD = 0.5
_OPENING_PERIOD = 0.05  # while something is being opened
_END_TIMEOUT = 5.0
_GRACE = 10.0  # beyond what replicas keep it open: a request that began with the old snapshot must be able to finish
_LEASE = 60.0  # without a question from any replica


@dataclass(frozen=True)
class State:
    """What routers follow of a store: the snapshot that is open everywhere, where its shards are, what went wrong.

    waits: what keeps the active snapshot from being open everywhere, as long as nothing is wrong with it. away: shards
    whose actor does not hold the snapshot just now, and why. `version` grows with `snapshot` and `held`: the others
    need nothing to be opened anew.
    """

    store: str
    version: int = 0
    snapshot: str | None = None
    held: tuple[Held | None, ...] = ()
    problem: str | None = None
    waits: str | None = None
    away: Mapping[int, str] = field(default_factory=dict)


class _Failed(NamedTuple):
    name: str
    until: float
    problem: str


def supervisor_name(app: str) -> str:
    """The Ray actor that supervises an application's store."""
    return f"{app}-supervisor"


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
        self._filters = filters
        self._keep_open = keep_open + _GRACE
        self._store = Store(store)
        self._state = State(store)
        self._slots = Slots(app, store)
        self._checked: tuple[str, int] | None = None
        self._closing: dict[str, float] = {}
        self._failed: _Failed | None = None
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
            self._thread.join(_END_TIMEOUT)
        self._slots.end()

    def _run(self) -> None:
        while not self._ended.wait(self._pause()):
            try:
                self._reconcile()
            except Exception as error:  # the loop must outlive whatever Ray or the store comes up with
                Log.exception("reconcile")
                self._change(problem=f"{type(error).__name__}: {error}")
            if time.monotonic() - self._asked > _LEASE:
                self.end()
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)

    def _pause(self) -> float:
        return _OPENING_PERIOD if self._state.snapshot is None or self._slots.opening else _PERIOD

    def _change(self, **fields: Any) -> None:
        """Put a new state in place, and log what is new of what went wrong."""
        old = self._state
        new = replace(old, **fields)
        if (new.snapshot, new.held) != (old.snapshot, old.held):
            new = replace(new, version=old.version + 1)
        if new.problem and new.problem != old.problem:
            Log.error("%s", new.problem)
        if new.away != old.away:
            Log.warning("away: %s", told(new.away) or "none any more")
        self._state = new

    def _reconcile(self) -> None:
        """One round: learn what the actors hold, let them open what they lack, switch once all hold what is wanted."""
        current = self._state.snapshot
        wanted, problem = current, None
        try:
            wanted = self._store.resolve()
        except SimshardError as error:
            problem = str(error)
        opens = {current: len(self._state.held)} if current else {}
        if wanted is None or wanted == current:
            self._failed = self._checked = None
        elif not self._waits(wanted):
            self._check(wanted, opens)
        if not opens:
            self._change(problem=problem or self._fault(wanted), waits=None)
            return
        holding = self._slots.round(opens)
        if current:
            self._follow(current, holding)
        waits = None
        if wanted in opens and wanted != current:
            waits = self._switch(wanted, opens[wanted], holding)
        self._change(problem=problem or self._fault(wanted), waits=waits)
        self._close_others(holding, {wanted, self._state.snapshot})

    def _waits(self, name: str) -> bool:
        return self._failed is not None and self._failed.name == name and time.monotonic() < self._failed.until

    def _fault(self, name: str | None) -> str | None:
        """Why this snapshot could not be opened, until it is."""
        return self._failed.problem if self._failed is not None and self._failed.name == name else None

    def _fail(self, name: str, error: SimshardError) -> None:
        self._failed = _Failed(name, time.monotonic() + RETRY, f"snapshot {name} cannot be opened: {error}")
        self._checked = None

    def _check(self, name: str, opens: dict[str, int]) -> None:
        """Add a snapshot to those that slots open, if its items are whole and fit the filters; looked at once a try."""
        try:
            if self._checked is None or self._checked[0] != name:
                manifest = self._store.manifest(name)
                for info in manifest.item_files:  # the actors verify their shards
                    verify_file(self._store.snapshots / name, info)
                check_filters(Items(self._store.snapshots / name), self._filters)
                self._checked = name, len(manifest.shards)
            opens[name] = self._checked[1]
        except SimshardError as error:
            self._fail(name, error)

    def _follow(self, name: str, holding: Holding) -> None:
        """Learn where the shards of the current snapshot are now, and which actors are away."""
        known = enumerate(self._state.held)
        held = tuple(holding.get(slot, {}).get(name, before) for slot, before in known)
        self._change(held=held, away=self._slots.missing(name, len(held), holding))

    def _switch(self, name: str, shards: int, holding: Holding) -> str | None:
        """Make a snapshot the current one if every slot of its shards holds it; else what it waits for."""
        try:
            self._slots.check(name)
        except SimshardError as error:
            self._fail(name, error)
            return None
        missing = self._slots.missing(name, shards, holding)
        if missing:
            if self._state.snapshot is None:  # what replicas of an earlier supervisor serve
                self._change(away=missing)
            return f"snapshot {name} waits for {told(missing)}"
        self._failed = self._checked = None
        self._change(snapshot=name, held=tuple(holding[slot][name] for slot in range(shards)), away={})
        return None

    def _close_others(self, holding: Holding, kept: set[str | None]) -> None:
        """Close what slots hold beside these, once replicas have let go of it.

        Other ones are what a switch replaced, what another became wanted before, and what an earlier supervisor left.
        """
        now = time.monotonic()
        for name in {name for there in holding.values() for name in there}:
            self._closing.setdefault(name, now + self._keep_open)
        self._closing = {name: when for name, when in self._closing.items() if name not in kept}
        for name in [name for name, when in self._closing.items() if now > when]:
            del self._closing[name]
            self._slots.close(name)
