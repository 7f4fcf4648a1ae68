"""Builds by Ray tasks are those of processes of one machine."""

import json
import subprocess

import numpy as np
import pyarrow as pa
import pyarrow.parquet

from simshard.shards.store import Store
from tests.support.builder import read_matrix
from tests.support.command import command
from tests.support.server import gcs_address


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
