"""A bounded map over jobs: Ray tasks where a cluster is there, processes otherwise. Results come in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from typing import Protocol, TypeVar

from simshard.shards.errors import SimshardError

J = TypeVar("J")
R = TypeVar("R")

_IN_FLIGHT = 2  # jobs a worker, so that none waits for the next one to be handed over


class Progress(Protocol):
    """Where a build reports to: phases in order, each with units done out of a total (None: not known)."""

    def phase(self, name: str, unit: str, total: int | None) -> None:
        """Begin a phase."""

    def advance(self, units: int) -> None:
        """Report units done since the last call."""


def run(function: Callable[[J], R], jobs: Iterable[J], workers: int) -> Iterator[R]:
    """The results of `function` for every job, in the order of the jobs, at most 2 jobs a worker in flight.

    The first exception in that order is raised; jobs after it that have not begun are dropped.
    """
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        yield from _run_ray(function, jobs, workers)
    elif workers == 1:
        yield from map(function, jobs)
    else:
        yield from _run_processes(function, jobs, workers)


def _run_ray(function: Callable[[J], R], jobs: Iterable[J], workers: int) -> Iterator[R]:
    import ray
    from ray.exceptions import RayTaskError

    remote = ray.remote(num_cpus=1, max_retries=3)(function)
    running: deque[ray.ObjectRef] = deque()
    todo = iter(jobs)
    try:
        while True:
            while len(running) < workers * _IN_FLIGHT and (job := next(todo, None)) is not None:
                running.append(remote.remote(job))
            if not running:
                return
            try:
                result = ray.get(running[0])
            except RayTaskError as error:
                raise error.cause from error
            running.popleft()
            yield result
    finally:
        for ref in running:
            ray.cancel(ref, force=True)


def _run_processes(function: Callable[[J], R], jobs: Iterable[J], workers: int) -> Iterator[R]:
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent)
    try:
        running: deque[Future[R]] = deque()
        todo = iter(jobs)
        while True:
            while len(running) < workers * _IN_FLIGHT and (job := next(todo, None)) is not None:
                running.append(pool.submit(function, job))
            if not running:
                return
            yield running.popleft().result()
    except BrokenProcessPool as error:
        raise SimshardError("a worker process was ended from outside (out of memory?); lower --memory") from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    """Make this worker end as soon as its parent is gone, even by SIGKILL: it must not write into a dead build."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
