"""`export`: what it writes, and that `ingest` reads it back to an equal snapshot with the command that it prints."""

import bz2
import gc
import gzip
import json
import re
import resource
import shlex
from contextlib import closing
from types import SimpleNamespace

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.ingest.build_pairs import IngestOptions, ingest
from simshard.shards.errors import StoreError
from simshard.shards.export_files import export
from simshard.shards.store import Snapshot, Store
from tests.builder import random_matrix, read_matrix, write_store

RUNNER = CliRunner()
QUIET = SimpleNamespace(phase=lambda *_: None, advance=lambda _: None)
FORMATS = [".parquet", ".json", ".ndjson", ".json.gz", ".jsonl.bz2", ".ndjson.zst"]


def run(*arguments, code=0):
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def command_of(result, store):
    """The arguments of the printed command, with this store, in this process."""
    command = shlex.split(re.search("read it back with: simshard (.*)", result.stderr)[1])
    command[command.index("STORE")] = str(store)
    return command if "--workers" in command else [*command, "--workers", "1"]


def said_of(store):
    """What the manifest says of the content."""
    manifest = store.manifest()
    fields = (
        "encoding",
        "items",
        "pairs",
        "directed",
        "score_abs_max",
        "batch_rows",
        "items_file",
        "titles_file",
        "payloads_file",
    )
    return {field: getattr(manifest, field) for field in fields} | {"shards": manifest.shards}


def read_back(folder, store, ending, *options, name="again"):
    """Export with the items, ingest with the printed command: the new store."""
    pairs, items = folder / f"{name}{ending}", folder / f"{name}-items{ending}"
    result = run("export", "--store", store.root, "--to", pairs, "--items-to", items, *options)
    assert "with --items-to" not in result.stderr
    run(*command_of(result, folder / name))
    return Store(folder / name)


def write_pairs(path, ids, matrix, directed=False):
    """A Parquet file of the matrix's pairs, NaN where there is none."""
    rows, columns = np.nonzero(~np.isnan(matrix if directed else np.triu(matrix, 1) + np.tril(matrix * np.nan)))
    scores = matrix[rows, columns]
    pq.write_table(pa.table({"a": ids.take(pa.array(rows)), "b": ids.take(pa.array(columns)), "score": scores}), path)


def some_ids(rng, count, kind):
    if kind == "text":
        words = ["é", 'ß"q', "\\n\n", "UNKNOWN", "日本", "},{", " ", "\x00\x1f", "😀", "id"]
        return pa.array([words[i] if i < len(words) else f"{words[i % len(words)]}{i}" for i in rng.permutation(count)])
    ends = [-(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1, 0]
    return pa.array(rng.permutation([*ends, *range(7, 7 + count)])[:count], pa.int64())


def some_attributes(rng, count):
    """Every type of attribute, with nulls under which something else lies, where it can."""
    null = rng.random((5, count)) < 0.3
    floats = np.where(rng.random(count) < 0.7, rng.integers(-3, 9, count), rng.standard_normal(count) * 1e9)
    tags = [[f"t{j}" for j in range(i % 4)] for i in range(count)]
    columns = {
        "title": pa.array([f"Title {i} “é”" for i in range(count)], mask=null[0]),
        "year": pa.array(rng.integers(-(2**63), 2**63 - 1, count), mask=null[1]),
        "rating": pa.array(np.where(rng.random(count) < 0.1, np.nan, floats), mask=null[2]),
        "whole": pa.array(rng.integers(0, 9, count).astype(float), mask=null[2]),
        "facts.tags": pa.array([None if null[3][i] else tags[i] for i in range(count)], pa.list_(pa.string())),
        "Name": pa.array([f'"{i}"' if i % 3 else "" for i in range(count)], mask=null[4]),
    }
    chosen = rng.random(len(columns)) < 0.6
    return {name: column for (name, column), wanted in zip(columns.items(), chosen, strict=True) if wanted}


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    items=st.integers(2, 40),
    density=st.sampled_from([0.02, 0.2, 0.5, 0.9, 1.0]),
    encoding=st.sampled_from(["auto", "dense", "sparse"]),
    shards=st.integers(1, 7),
    directed=st.booleans(),
    kind=st.sampled_from(["integers", "text"]),
    kept=st.none() | st.integers(1, 12),
    top=st.integers(1, 12),
    ending=st.sampled_from(FORMATS),
)
def test_the_export_is_read_back_to_an_equal_snapshot(
    tmp_path_factory, seed, items, density, encoding, shards, directed, kind, kept, top, ending
):
    folder = tmp_path_factory.mktemp("identity")
    rng = np.random.default_rng(seed)
    matrix = random_matrix(seed, items, density, directed=directed, negative=True)
    ids = some_ids(rng, items, kind)
    write_pairs(folder / "pairs.parquet", ids, matrix, directed)
    catalogue = pa.table({"key": ids, **some_attributes(rng, items)}).take(pa.array(rng.permutation(items)))
    pq.write_table(catalogue.slice(0, rng.integers(1, items + 1)), folder / "items.parquet")
    options = IngestOptions(
        items=str(folder / "items.parquet") if rng.random() < 0.7 else None,
        id_column="key",
        directed=directed,
        top=kept,
        shards=shards,
        encoding=None if encoding == "auto" else encoding,
        workers=1,
    )
    store = Store(folder / "store")
    ingest([str(folder / "pairs.parquet")], store, options, QUIET)
    again = read_back(folder, store, ending)
    assert said_of(again) == said_of(store)
    assert again.verify(again.resolve()) == []

    best = read_back(folder, store, ending, "--top", top, name="best")
    wanted = ["--directed"] if directed else []
    number = len(store.manifest().shards)
    run(
        *command_of(run("export", "--store", store.root, "--to", folder / "all.ndjson"), folder / "cut")[:2],
        *("--store", folder / "cut", "--items", folder / f"again-items{ending}", "--workers", 1, *wanted),
        *("--top", min(top, kept or top), "--shards", number, "--encoding", best.manifest().encoding),
    )
    cut = Store(folder / "cut")
    assert np.array_equal(read_matrix(best), read_matrix(cut), equal_nan=True)
    compared = said_of(cut) | ({"shards": said_of(best)["shards"]} if kept else {})
    assert said_of(best) == compared


def test_what_compute_keeps_of_each_item_is_read_back_with_its_shards(tmp_path):
    """Of so many items `compute` begins shards at multiples of 256 rows, which no other build would."""
    rng = np.random.default_rng(5)
    count = 2_100
    lists = [[f"t{t}" for t in rng.choice(60, 4, replace=False)] for _ in range(count)]
    table = {"id": rng.permutation(count) - 1_000, "title": [f"Title {i}" for i in range(count)], "tags": lists}
    pq.write_table(pa.table(table), tmp_path / "catalogue.parquet")
    options = ("--store", tmp_path / "store", "--feature", "tags:set=1", "--top", 6, "--workers", 1)
    run("compute", tmp_path / "catalogue.parquet", *options)
    store = Store(tmp_path / "store")
    assert 2 * store.manifest().pairs > sum(shard.entries for shard in store.manifest().shards)
    for ending in (".parquet", ".ndjson"):
        assert said_of(read_back(tmp_path, store, ending, name=ending[1:])) == said_of(store)
    result = run("export", "--store", store.root, "--to", tmp_path / "x.ndjson")
    assert "--top 6" in result.stderr and "--starts 0,1024" in result.stderr
    assert "with --items-to" in result.stderr


def test_shards_that_repeated_records_moved_and_batches_that_memory_made_smaller(tmp_path):
    matrix = random_matrix(3, 600, density=0.95)
    ids = pa.array(range(600))
    write_pairs(tmp_path / "pairs.parquet", ids, matrix)
    pq.write_table(pq.read_table(tmp_path / "pairs.parquet").slice(0, 50_000), tmp_path / "more.parquet")
    paths = [str(tmp_path / "pairs.parquet"), str(tmp_path / "more.parquet")]
    store = Store(tmp_path / "store")
    options = IngestOptions(encoding="sparse", shards=3, memory=16 << 20, workers=1)
    assert ingest(paths, store, options, QUIET).batch_rows == 128
    assert said_of(read_back(tmp_path, store, ".ndjson")) == said_of(store)
    result = run("export", "--store", store.root, "--to", tmp_path / "x.json.gz")
    assert "--starts 0," in result.stderr and "--batch-rows 128" in result.stderr
    assert "--items" not in result.stderr
    for memory, workers in ((16, 3), (256, 1)):  # whatever the machine
        target = tmp_path / f"copy-{memory}"
        run(*command_of(result, target), "--memory", f"{memory}MB", "--workers", workers)
        assert said_of(Store(target)) == said_of(store)


def test_options_of_a_build_that_leave_nothing_for_each_other(tmp_path):
    write_pairs(tmp_path / "pairs.parquet", pa.array(range(30)), random_matrix(3, 30))
    for options in (("--starts", "0,9", "--shards", 2), ("--batch-rows", 100), ("--id", "x"), ("--title", "x")):
        run("ingest", tmp_path / "pairs.parquet", "--store", tmp_path / "store", *options, code=2)
    dense = ("--batch-rows", 4, "--encoding", "dense", "--memory", "16MB")
    run("ingest", tmp_path / "pairs.parquet", "--store", tmp_path / "store", *dense)
    assert Store(tmp_path / "store").manifest().batch_rows == 4
    assert np.array_equal(read_matrix(Store(tmp_path / "store")), random_matrix(3, 30), equal_nan=True)


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


def test_an_export_that_was_damaged_is_not_read_back(tmp_path):
    store = write_store(tmp_path / "store", random_matrix(1, 60), attributes={"title": pa.array(["a title"] * 60)})
    paths = tmp_path / "pairs.parquet", tmp_path / "items.parquet"
    command = command_of(
        run("export", "--store", store.root, "--to", paths[0], "--items-to", paths[1]), tmp_path / "to"
    )
    for path in paths:
        whole = path.read_bytes()
        damaged = bytearray(whole)
        damaged[pq.ParquetFile(path).metadata.row_group(0).column(1).data_page_offset - 3] ^= 1  # ends a page
        path.write_bytes(damaged)
        assert f"{path}: cannot be read" in run(*command, code=1).stderr
        path.write_bytes(whole)
    run(*command)


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
