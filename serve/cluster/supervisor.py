"""Keeps shard actors as they should be, round by round.

One detached actor for each served store. When no replica has asked for the state for a while, the Serve application is
gone, and the supervisor ends its actors and itself.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

import ray

from simshard.serve.cluster.rounds import Rounds, State
from simshard.serve.cluster.slots import NAMESPACE, SlotActors
from simshard.shards.local_copies import Follower, Location

Log = logging.getLogger("simshard.supervisor")

_END_TIMEOUT = 5.0
_LEASE = 60.0  # without a question from any replica


def supervisor_name(app: str) -> str:
    """The Ray actor that supervises an application's store."""
    return f"{app}-supervisor"


def get_supervisor(app: str, location: Location, keep_open: float, filters: Mapping[str, Any]) -> Any:
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
        .remote(app, location, keep_open, filters)
    )


class Supervisor:
    """The actor; its rounds run in a thread."""

    def __init__(self, app: str, location: Location, keep_open: float, filters: Mapping[str, Any]) -> None:
        copies = location.copies()
        self._rounds = Rounds(
            location.folder,
            keep_open,
            filters,
            SlotActors(app, location.folder),
            copies=None if copies is None else Follower(copies),
        )
        self._asked = time.monotonic()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="rounds")
        self._thread.start()

    def state(self) -> State:
        """The current state; asking is what keeps the supervisor alive."""
        self._asked = time.monotonic()
        return self._rounds.state

    def end(self) -> None:
        """End the shard actors; the caller then ends this actor."""
        self._ended.set()
        if threading.current_thread() is not self._thread:
            self._thread.join(_END_TIMEOUT)
        self._rounds.end()

    def _run(self) -> None:
        while not self._ended.wait(self._rounds.pause):
            try:
                self._rounds.round()
            except Exception as error:  # the loop must outlive whatever Ray or the store comes up with
                Log.exception("a round")
                self._rounds.fail(f"{type(error).__name__}: {error}")
            if time.monotonic() - self._asked > _LEASE:
                self.end()
                ray.kill(ray.get_runtime_context().current_actor, no_restart=True)
