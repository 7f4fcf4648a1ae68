"""One round after the other: opens a snapshot everywhere, then lets replicas switch.

The store's `current.json` is the only truth: a round compares it with what is open, and no actor holds a round up for
long. A snapshot becomes `State.snapshot` once every slot actor of its shards has verified and opened it; one that fails
to open leaves the old one serving and is tried again later.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from simshard.serve.cluster.slots import RETRY, Holding, SlotActors, Slots, told
from simshard.shards.actor import Held
from simshard.shards.errors import SimshardError
from simshard.shards.filters import check_filters
from simshard.shards.items import Items
from simshard.shards.local_copies import Follower
from simshard.shards.manifest import verify_file
from simshard.shards.store import Store

Log = logging.getLogger("simshard.supervisor")

_PERIOD = 0.5
_OPENING_PERIOD = 0.05  # while something is being opened
_GRACE = 10.0  # beyond what replicas keep it open: a request that began with the old snapshot must be able to finish


@dataclass(frozen=True)
class State:
    """What replicas follow of a store: the snapshot that is open everywhere, where its shards are, what went wrong.

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


class Rounds:
    """The state of one store, and the rounds that change it.

    store: the folder that is read; copies: what keeps it as the bucket is whose copies it holds.
    """

    def __init__(
        self,
        store: str,
        keep_open: float,
        filters: Mapping[str, Any],
        actors: SlotActors,
        clock: Callable[[], float] = time.monotonic,
        copies: Follower | None = None,
    ) -> None:
        self.state = State(copies.place if copies else store)
        self._copies = copies
        self._filters = filters
        self._keep_open = keep_open + _GRACE
        self._store = Store(store)
        self._slots = Slots(actors, clock)
        self._clock = clock
        self._checked: tuple[str, int] | None = None
        self._closing: dict[str, float] = {}
        self._failed: _Failed | None = None

    @property
    def pause(self) -> float:
        """Seconds to wait before the next round."""
        return _OPENING_PERIOD if self.state.snapshot is None or self._slots.opening else _PERIOD

    def end(self) -> None:
        """End the shard actors, and follow no more."""
        if self._copies is not None:
            self._copies.close()
        self._slots.end()

    def fail(self, problem: str) -> None:
        """Tell that a round could not be finished."""
        self._change(problem=problem)

    def round(self) -> None:
        """One round: learn what the actors hold, let them open what they lack, switch once all hold what is wanted."""
        current = self.state.snapshot
        wanted, problem = current, None
        try:
            wanted = self._store.resolve()
        except SimshardError as error:
            problem = str(error)
        if self._copies is not None and self._copies.problem is not None:
            problem = self._copies.problem
        opens = {current: len(self.state.held)} if current else {}
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
        self._close_others(holding, {wanted, self.state.snapshot})

    def _change(self, **fields: Any) -> None:
        """Put a new state in place, and log what is new of what went wrong."""
        old = self.state
        new = replace(old, **fields)
        if (new.snapshot, new.held) != (old.snapshot, old.held):
            new = replace(new, version=old.version + 1)
        if new.problem and new.problem != old.problem:
            Log.error("%s", new.problem)
        if new.away != old.away:
            Log.warning("away: %s", told(new.away) or "none any more")
        self.state = new

    def _waits(self, name: str) -> bool:
        return self._failed is not None and self._failed.name == name and self._clock() < self._failed.until

    def _fault(self, name: str | None) -> str | None:
        """Why this snapshot could not be opened, until it is."""
        return self._failed.problem if self._failed is not None and self._failed.name == name else None

    def _fail(self, name: str, error: SimshardError) -> None:
        self._failed = _Failed(name, self._clock() + RETRY, f"snapshot {name} cannot be opened: {error}")
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
        known = enumerate(self.state.held)
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
            if self.state.snapshot is None:  # what replicas of an earlier supervisor serve
                self._change(away=missing)
            return f"snapshot {name} waits for {told(missing)}"
        self._failed = self._checked = None
        self._change(snapshot=name, held=tuple(holding[slot][name] for slot in range(shards)), away={})
        return None

    def _close_others(self, holding: Holding, kept: set[str | None]) -> None:
        """Close what slots hold beside these, once replicas have let go of it.

        Other ones are what a switch replaced, what another became wanted before, and what an earlier supervisor left.
        """
        now = self._clock()
        for name in {name for there in holding.values() for name in there}:
            self._closing.setdefault(name, now + self._keep_open)
        self._closing = {name: when for name, when in self._closing.items() if name not in kept}
        for name in [name for name, when in self._closing.items() if now > when]:
            del self._closing[name]
            self._slots.close(name)
