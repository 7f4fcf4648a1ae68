"""A bounded map over processes."""

import os
import signal
import subprocess
import time

import numpy as np
import psutil
import pytest

from simshard.ingest.tasks import Workers
from simshard.shards.errors import InputError, SimshardError
from tests.support.command import command


def square(number):
    if number == 7:
        raise InputError("seven")
    if number == -1:
        os._exit(1)
    return number * number


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order_and_the_first_error_ends_the_run(workers):
    with Workers(workers) as pool:
        assert list(pool.run(square, range(7))) == [n * n for n in range(7)]
        done = []
        with pytest.raises(InputError, match="seven"):
            done.extend(pool.run(square, iter(range(100))))
        assert list(pool.run(square, [])) == []
        assert list(pool.run(square, range(3), small=True)) == [0, 1, 4]


def test_jobs_in_flight_are_bounded():
    taken = []

    def jobs():
        for number in range(30, 60):
            taken.append(number)
            yield number

    with Workers(2) as pool:
        results = pool.run(square, jobs())
        next(results)
        assert len(taken) <= 5
        results.close()


def test_a_worker_that_is_killed_is_told():
    with Workers(2) as pool, pytest.raises(SimshardError, match="out of memory"):
        list(pool.run(square, [-1, 1]))


@pytest.mark.slow
def test_ctrl_c_ends_a_long_build_at_once_and_leaves_nothing(tmp_path):
    np.save(tmp_path / "v.npy", np.random.default_rng(0).normal(size=(100_000, 64)).astype(np.float32))
    (tmp_path / "items.csv").write_text("id\n" + "\n".join(map(str, range(100_000))))
    arguments = ("compute", tmp_path / "items.csv", "--store", tmp_path / "store", "--feature", "v:vector", "--top", 5)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a child would inherit that it is ignored
    build = subprocess.Popen(command(*arguments), stderr=subprocess.PIPE, text=True)
    signal.signal(signal.SIGINT, handler)
    try:
        while not build.stderr.readline().startswith("Scoring"):
            assert build.poll() is None
        deadline = time.monotonic() + 30
        while len(workers := psutil.Process(build.pid).children(recursive=True)) < 3:  # one tracks their resources
            assert time.monotonic() < deadline
            time.sleep(0.1)
        time.sleep(1)
        build.send_signal(signal.SIGINT)
        build.communicate(timeout=20)
        assert build.returncode != 0
        psutil.wait_procs(workers, timeout=10)
        assert not [worker for worker in workers if worker.is_running()]
        assert not list((tmp_path / "store" / "snapshots").iterdir())
        assert not list((tmp_path / "store" / "staging").iterdir())
    finally:
        build.kill()
        build.communicate()
