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
from concurrent.futures import wait as wait_for_futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection, wait
from typing import Any, TypeVar

from simshard.shards.errors import SimshardError

J = TypeVar("J")
R = TypeVar("R")

_IN_FLIGHT = 2  # jobs a worker, so that none waits for the next one to be handed over


def on_ray() -> bool:
    """Whether this process is connected to a Ray cluster."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def cores() -> tuple[int, int]:
    """How many cores work can use: of all machines together, and of the smallest one."""
    if on_ray():
        nodes = (node for node in sys.modules["ray"].nodes() if node["Alive"])
        counts = [int(node["Resources"].get("CPU", 0)) for node in nodes]
        counts = [count for count in counts if count] or [1]
        return sum(counts), min(counts)
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return count, count


class Workers:
    """Where jobs run: Ray tasks where this process is connected to a cluster, else processes, started when needed.

    count: workers at a time; 1 runs jobs in this process.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._pool: ProcessPoolExecutor | None = None
        self._stop: Connection

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if self._pool is not None:
            if kind is KeyboardInterrupt:
                self._end_workers()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _end_workers(self) -> None:
        """End them now, whatever they do: a job can take hours."""
        if not self._stop.closed:
            self._stop.close()

    def run(self, function: Callable[[J], R], jobs: Iterable[J], small: bool = False, threads: int = 1) -> Iterator[R]:
        """The results of `function` for every job, in the order of the jobs, at most 2 jobs a worker in flight.

        small: not worth a worker's start; threads: cores that a job keeps busy. The first exception in that order is
        raised; jobs after it that have not begun are dropped.
        """
        if on_ray():
            return self._run_ray(function, jobs, threads)
        if self.count == 1 or (small and self._pool is None):
            return map(function, jobs)
        return self._run_processes(function, jobs)

    def _run_ray(self, function: Callable[[J], R], jobs: Iterable[J], threads: int) -> Iterator[R]:
        import ray
        from ray.exceptions import RayTaskError

        remote = ray.remote(num_cpus=threads, max_retries=3)(function)
        running: deque[ray.ObjectRef] = deque()
        todo = iter(jobs)
        try:
            while True:
                while len(running) < self.count * _IN_FLIGHT and (job := next(todo, None)) is not None:
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

    def _run_processes(self, function: Callable[[J], R], jobs: Iterable[J]) -> Iterator[R]:
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            stop, self._stop = context.Pipe(duplex=False)
            self._pool = ProcessPoolExecutor(self.count, context, initializer=_end_with_parent, initargs=(stop,))
        running: deque[Future[R]] = deque()
        todo = iter(jobs)
        try:
            while True:
                while len(running) < self.count * _IN_FLIGHT and (job := next(todo, None)) is not None:
                    running.append(self._pool.submit(function, job))
                if not running:
                    return
                yield running.popleft().result()
        except BrokenProcessPool as error:
            running.clear()
            raise SimshardError("a worker process was ended from outside (out of memory?); lower --memory") from error
        except KeyboardInterrupt:
            self._end_workers()
            running.clear()  # the pool, as it breaks, trips over futures that were canceled, and would never end others
            raise
        finally:
            for future in running:
                future.cancel()
            wait_for_futures(running)


def _end_with_parent(stop: Connection) -> None:
    """Make this worker end as soon as the other end of `stop` is closed or its parent is gone, even by SIGKILL.

    It must not write into a dead build.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides

    def watch() -> None:
        wait([parent.sentinel, stop])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
