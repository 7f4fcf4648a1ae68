import json
import os
import signal
import subprocess
import time

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet
import pytest

from simshard.ingest.tasks import Workers
from simshard.shards.errors import InputError, SimshardError
from simshard.shards.store import Store
from tests.builder import read_matrix
from tests.server import command, gcs_address


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


def test_the_same_snapshot_from_ray_tasks(cluster, tmp_path):
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 200, (2, 100_000))
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(list(zip(a.tolist(), b.tolist(), rng.random(100_000).round(3).tolist(), strict=True))))
    options = ("--memory", "16MB", "--workers", "2")
    for name, more in (("here", ()), ("ray", ("--address", gcs_address(cluster.folder)))):
        arguments = ("ingest", path, "--store", tmp_path / name, *options, *more)
        subprocess.run(command(*arguments), check=True, capture_output=True)
    here, ray = Store(tmp_path / "here"), Store(tmp_path / "ray")
    assert np.array_equal(read_matrix(here), read_matrix(ray), equal_nan=True)
    checksums = [[shard.checksum for shard in store.manifest().shards] for store in (here, ray)]
    assert checksums[0] == checksums[1]
    path.write_text(path.read_text()[:-1] + ",[1,2]]")
    arguments = ("ingest", path, "--store", tmp_path / "ray", *options, "--address", gcs_address(cluster.folder))
    refused = subprocess.run(command(*arguments), check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "record 100001: expected a triple" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_the_same_snapshot_of_parquet_from_ray_tasks(cluster, tmp_path):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 300, (2, 60_000))
    table = pa.table({"a": a, "b": b, "score": rng.random(60_000).round(3).astype(np.float32)})
    pa.parquet.write_table(table, tmp_path / "pairs.parquet", row_group_size=7_000)
    (tmp_path / "pairs.ndjson").write_text("\n".join(map(json.dumps, table.to_pylist())))
    options = ("--memory", "16MB", "--workers", "2", "--top", "9")
    checksums = []
    for name, more in (("pairs.ndjson", ()), ("pairs.parquet", ("--address", gcs_address(cluster.folder)))):
        arguments = ("ingest", tmp_path / name, "--store", tmp_path / f"{name}.store", *options, *more)
        subprocess.run(command(*arguments), check=True, capture_output=True)
        manifest = Store(tmp_path / f"{name}.store").manifest()
        checksums.append([info.checksum for info in manifest.files] + [manifest.pairs])
    assert checksums[0] == checksums[1]


def test_the_same_scores_from_ray_tasks(cluster, tmp_path):
    path = tmp_path / "items.csv"
    lines = [f'{i},"{"ab"[i % 2]}, {"cde"[i % 3]}",{1990 + i % 17}' for i in range(700)]
    path.write_text("\n".join(["id,tags,year", *lines]))
    for name, more in (("here", ()), ("ray", ("--address", gcs_address(cluster.folder)))):
        arguments = ("compute", path, "--store", tmp_path / name, "--top", "20", "--shards", "3", *more)
        subprocess.run(command(*arguments), check=True, capture_output=True)
    here, ray = Store(tmp_path / "here").manifest(), Store(tmp_path / "ray").manifest()
    assert [shard.checksum for shard in here.shards] == [shard.checksum for shard in ray.shards]
    assert here.pairs == ray.pairs
    arguments = ("compute", path, "--store", tmp_path / "ray", "--feature", "none:set")
    refused = subprocess.run(
        command(*arguments, "--address", gcs_address(cluster.folder)), check=False, capture_output=True, text=True
    )
    assert refused.returncode == 1
    assert "no column 'none'" in refused.stderr
