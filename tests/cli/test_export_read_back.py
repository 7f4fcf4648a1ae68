"""`ingest` reads what `export` wrote back to an equal snapshot, with the command that `export` prints."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.ingest.build_pairs import IngestOptions, ingest
from simshard.shards.store import Store
from tests.support.builder import random_matrix, read_matrix, write_store
from tests.support.export_command import FORMATS, command_of, run
from tests.support.progress import QUIET


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


@pytest.mark.slow
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


@pytest.mark.slow
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
