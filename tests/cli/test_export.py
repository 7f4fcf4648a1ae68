"""`export`: what it writes, and what it leaves when it fails."""

import bz2
import gc
import gzip
import json
import resource
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simshard.shards.errors import StoreError
from simshard.shards.export_files import export
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store
from tests.support.export_command import FORMATS, run
from tests.support.progress import QUIET


def text_of(path):
    unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix)
    if path.suffix == ".zst":
        return pa.input_stream(str(path)).read()
    return unpack(path.read_bytes()) if unpack else path.read_bytes()


def records_of(path):
    """Records as (a, b, score), score float32, whatever the format."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        assert table.schema.names == ["a", "b", "score"] and table["score"].type == pa.float32()
        return list(zip(*(table[name].to_pylist() for name in table.schema.names), strict=True))
    text = text_of(path)
    records = json.loads(text) if ".json" in path.suffixes else [json.loads(line) for line in text.splitlines()]
    assert all(list(record) == ["a", "b", "score"] for record in records)
    return [(record["a"], record["b"], np.float32(record["score"])) for record in records]


@pytest.mark.parametrize(
    ("ending", "encoding"), [*zip(FORMATS, ["dense", "sparse"] * 3, strict=True), (".parquet", "sparse")]
)
def test_every_pair_once_or_the_best_of_each_item(tmp_path, ending, encoding):
    matrix = random_matrix(8, 280, density=0.97)
    ids = pa.array([f'"{i}"' for i in range(280)])
    store = write_store(tmp_path / "store", matrix, encoding, shards=3, ids=ids)
    path = tmp_path / f"pairs{ending}"
    body = json.loads(run("export", "--store", store.root, "--to", path, "--json").stdout)
    rows, columns = np.nonzero(~np.isnan(matrix))
    once = rows < columns
    names = ids.to_pylist()
    expected = {(names[a], names[b], matrix[a, b]) for a, b in zip(rows[once], columns[once], strict=True)}
    assert len(records_of(path)) == len(expected) == body["pairs"] == store.manifest().pairs
    assert set(records_of(path)) == expected
    assert (body["snapshot"], body["bytes"]) == (store.resolve(), path.stat().st_size)
    for top in (3, 265):  # as many as stand beside a dense row, and more
        run("export", "--store", store.root, "--to", path, "--top", top)
        best = []
        for row in range(280):
            there = np.flatnonzero(~np.isnan(matrix[row]))
            for at in there[np.lexsort((there, -matrix[row, there]))][:top]:
                best.append((names[row], names[at], matrix[row, at]))
        assert records_of(path) == best
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [path.name, "store"]


def test_scores_are_the_shortest_texts_and_ids_are_as_they_are(tmp_path):
    matrix = np.array([[np.nan, 0.1], [1e-7, np.nan]], dtype=np.float32)
    ids = pa.array([2**53 + 1, -5])
    store = write_store(tmp_path / "store", matrix, "sparse", ids=ids, directed=True)
    run("export", "--store", store.root, "--to", tmp_path / "pairs.json", "--items-to", tmp_path / "items.ndjson")
    assert (tmp_path / "pairs.json").read_text() == (
        '[\n{"a":9007199254740993,"b":-5,"score":0.1},\n{"a":-5,"b":9007199254740993,"score":1e-7}\n]\n'
    )
    assert (tmp_path / "items.ndjson").read_text() == '{"id":9007199254740993,"title":null}\n{"id":-5,"title":null}\n'
    run("export", "--store", store.root, "--to", tmp_path / "pairs.ndjson", "--top", 1)
    lines = (tmp_path / "pairs.ndjson").read_bytes().split(b"\n")
    assert lines[-1] == b"" and [orjson.loads(line)["a"] for line in lines[:-1]] == ids.to_pylist()


def test_what_cannot_be_exported_is_told_in_a_sentence(tmp_path):
    store = write_store(tmp_path / "store", random_matrix(1, 20))
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "file").touch()

    def refuse(*options, to="x.ndjson"):
        result = run("export", "--store", store.root, "--to", tmp_path / to, *options, code=1)
        (line,) = [line for line in result.stderr.splitlines() if line.startswith("simshard: ")]
        assert not list(tmp_path.glob("**/*.tmp"))
        return line

    for name in ("x.csv", "x", "x.parquet.gz", "x.gz", "parquet"):
        message = refuse(to=name)
        assert name in message and ".parquet, .ndjson or .json" in message
    assert "format is not told" in refuse("--items-to", tmp_path / "items.xlsx")
    assert "No such file" in refuse(to="none/x.json") and "name a file in a folder" in refuse(to="none/x.json")
    assert "Not a directory" in refuse(to="file/x.json")
    assert "Is a directory" in refuse(to="folder.json")
    assert "a file each" in refuse("--items-to", tmp_path / "x.ndjson")
    assert "no snapshot 'x'" in refuse("--snapshot", "x")
    assert "no active snapshot" in run("export", "--store", tmp_path / "none", "--to", "x.json", code=1).stderr
    run("export", "--store", store.root, "--to", tmp_path / "x.json", "--top", 0, code=2)
    with closing(Snapshot(store)) as held, pytest.raises(StoreError, match="1 or more"):
        export(held, tmp_path / "x.json", QUIET, 0)
    assert not (tmp_path / "x.ndjson").exists()


@pytest.mark.parametrize("file", ["items.arrow", "shard-00001.arrow"])
def test_a_damaged_snapshot_is_refused(tmp_path, file):
    store = write_store(tmp_path / "store", random_matrix(1, 20))
    path = store.snapshots / store.resolve() / file
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 4
    path.write_bytes(data)
    (tmp_path / "x.json").write_text("as it was")
    result = run("export", "--store", store.root, "--to", tmp_path / "x.json", code=1)
    assert f"{file}: checksum" in result.stderr
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store", "x.json"]
    assert (tmp_path / "x.json").read_text() == "as it was"


@pytest.mark.parametrize("ending", FORMATS)
def test_an_interrupted_export_leaves_nothing(tmp_path, ending):
    def interrupt(_):
        raise KeyboardInterrupt

    store = write_store(tmp_path / "store", random_matrix(1, 20))
    progress = SimpleNamespace(phase=lambda *_: None, advance=interrupt)
    path = tmp_path / f"x{ending}"
    path.write_text("as it was")
    for items_to in (None, tmp_path / f"items{ending}"):
        with closing(Snapshot(store)) as held, pytest.raises(KeyboardInterrupt):
            export(held, path, progress, items_to=items_to)
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store", path.name]
        assert path.read_text() == "as it was"


@pytest.mark.parametrize("ending", FORMATS)
def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, capfd, ending):
    store = write_store(tmp_path / "store", random_matrix(1, 400), ids=pa.array([f"item {i}" for i in range(400)]))
    path, items = tmp_path / f"x{ending}", tmp_path / f"items{ending}"
    path.write_text("as it was")
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9_000, limit[1]))
    try:
        result = run("export", "--store", store.root, "--to", path, "--items-to", items, code=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    *phases, message = result.stderr.splitlines()
    full = items if len(phases) == 1 else path
    assert message == (
        f"simshard: {full}: cannot be written (File too large); make room or write elsewhere; nothing there has changed"
    )
    assert path.read_text() == "as it was"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["store", path.name]
    gc.collect()
    assert capfd.readouterr().err == ""


def test_a_snapshot_that_is_exported_is_held(tmp_path):
    """Prune, while the first pairs are being written, leaves it alone."""
    store = write_store(tmp_path / "store", random_matrix(1, 20))
    name = store.resolve()
    write_store(tmp_path / "store", random_matrix(2, 20))
    held = []
    progress = SimpleNamespace(phase=lambda *_: None, advance=lambda _: held.extend(store.prune(0)[1]))
    with closing(Snapshot(store, name)) as snapshot:
        export(snapshot, tmp_path / "x.json", progress)
    assert set(held) == {name}


def test_a_row_longer_than_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr("simshard.shards.export_files._AT_ONCE", 7)
    monkeypatch.setattr("simshard.shards.export_files._ROW_GROUP", 7)
    matrix = random_matrix(2, 30, density=0.9)
    matrix[5:9] = matrix[:, 5:9] = np.nan
    store = write_store(tmp_path / "store", matrix, "sparse", shards=4)
    for ending in (".parquet", ".json"):
        run("export", "--store", store.root, "--to", tmp_path / f"x{ending}")
        found = records_of(tmp_path / f"x{ending}")
        assert len(set(found)) == len(found) == store.manifest().pairs
        assert all(matrix[a, b] == score for a, b, score in found)
    assert pq.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups > 10
