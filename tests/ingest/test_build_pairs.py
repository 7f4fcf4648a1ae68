"""`ingest` through its function: every shape, any parallelism, equal to a dictionary that the pairs are put into."""

import bz2
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.ingest.build_pairs import IngestOptions, ingest
from simshard.shards.errors import InputError
from simshard.shards.items import Items
from simshard.shards.store import Store
from tests.support.builder import read_ids, read_matrix
from tests.support.pairs import INLINE, PAIRS, check, expected
from tests.support.progress import QUIET


def objects(pairs, names=("a", "b", "score"), **dump):
    return json.dumps([dict(zip(names, pair, strict=True)) for pair in pairs], **dump)


WRITERS = {
    "objects.json": objects(PAIRS),
    "spaced.json": objects(PAIRS, indent=3),
    "triples.json": json.dumps(PAIRS),
    "spaced-triples.json": " \n" + json.dumps(PAIRS, indent=1) + "\n\n",
    "objects.ndjson": "\n".join(json.dumps(dict(zip("abs", p, strict=True)) | {"score": p[2]}) for p in PAIRS),
    "triples.jsonl": "\n\n".join(map(json.dumps, PAIRS)) + "\n",
    "windows.ndjson": "\r\n".join(map(json.dumps, PAIRS)) + "\r\n",
    "weights.json": objects(PAIRS, ("source", "target", "weight")),
    "similarity.json": objects(PAIRS, ("id1", "id2", "similarity")),
    "items.json": objects(PAIRS, ("item1", "item2", "score")),
    "bom.json": "\ufeff" + objects(PAIRS),
    "nested.json": json.dumps(
        [{"a": a, "b": b, "score": s, "why": [{"x": 1}, {"y": [[2], [3]]}]} for a, b, s in PAIRS]
    ),
    "braces.json": json.dumps([{"a": a, "b": b, "score": s, "note": '},{ ],[ \\" '} for a, b, s in PAIRS]),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_shape(tmp_path, name):
    path = tmp_path / name
    path.write_text(WRITERS[name], encoding="utf-8")
    store = Store(tmp_path / "store")
    manifest = ingest([str(path)], store, INLINE, QUIET)
    check(store, PAIRS)
    assert manifest.dropped == {"self_pairs": 1, "duplicates": 1}
    assert manifest.pairs == 4


def test_named_fields(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(objects(PAIRS, ("left", "right", "how much")))
    store = Store(tmp_path / "store")
    ingest([str(path)], store, IngestOptions(fields=("left", "right", "how much"), workers=1), QUIET)
    check(store, PAIRS)


@pytest.mark.parametrize("suffix", [".gz", ".bz2", ".zst"])
@pytest.mark.parametrize("name", ["pairs.json", "pairs.ndjson"])
def test_compressed_files_and_several_in_argument_order(tmp_path, suffix, name):
    text = (objects(PAIRS) if name.endswith(".json") else "\n".join(map(json.dumps, PAIRS))).encode()
    pack = {".gz": gzip.compress, ".bz2": bz2.compress, ".zst": lambda t: pa.compress(t, "zstd").to_pybytes()}[suffix]
    first, second = tmp_path / (name + suffix), tmp_path / "more.ndjson"
    first.write_bytes(pack(text))
    second.write_text("[3, 1, 9.5]")
    store = Store(tmp_path / "store")
    ingest([str(first), str(second)], store, INLINE, QUIET)
    check(store, [*PAIRS, (3, 1, 9.5)])
    ingest([str(second), str(first)], store, INLINE, QUIET)
    check(store, PAIRS)


@pytest.mark.parametrize("text", [objects(PAIRS), json.dumps(PAIRS), "\n".join(map(json.dumps, PAIRS))])
def test_stdin(tmp_path, monkeypatch, text):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(text.encode())))
    store = Store(tmp_path / "store")
    ingest(["-"], store, INLINE, QUIET)
    check(store, PAIRS)


IDS = {
    "integers": st.integers(-(2**63), 2**63 - 1) | st.integers(0, 9),
    "text": st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
    | st.sampled_from(["a", "},{", '"', "],[", "é"]),
}


@settings(max_examples=150, deadline=None)
@given(st.data(), st.sampled_from(["integers", "text"]), st.booleans(), st.sampled_from([None, "dense", "sparse"]))
def test_any_pairs_in_any_encoding(tmp_path_factory, data, kind, directed, encoding):
    pairs = data.draw(
        st.lists(st.tuples(IDS[kind], IDS[kind], st.floats(-(2.0**100), 2.0**100, width=32)), min_size=1, max_size=40)
    )
    if all(a == b for a, b, _ in pairs):
        return
    folder = tmp_path_factory.mktemp("any")
    path = folder / data.draw(st.sampled_from(["pairs.json", "pairs.ndjson"]))
    lines = [json.dumps(pair, ensure_ascii=data.draw(st.booleans())) for pair in pairs]
    path.write_text(f"[{','.join(lines)}]" if path.suffix == ".json" else "\n".join(lines), encoding="utf-8")
    shards = data.draw(st.integers(1, 7))
    options = IngestOptions(directed=directed, encoding=encoding, shards=shards, workers=1)
    store = Store(folder / "store")
    manifest = ingest([str(path)], store, options, QUIET)
    check(store, pairs, directed=directed)
    assert len(manifest.shards) == min(shards, manifest.items)
    assert store.verify(manifest.name) == []


@pytest.mark.slow
def test_pieces_cut_anywhere_and_any_parallelism_give_one_snapshot(tmp_path):
    """Over 8 MB of pairs with repetitions, cut into pieces of 1 MB and 64 KB: the last of repeated pairs wins."""
    rng = np.random.default_rng(3)
    count = 260_000
    a, b = rng.integers(0, 300, (2, count))
    pairs = list(zip(a.tolist(), b.tolist(), rng.random(count).round(3).tolist(), strict=True))
    path = tmp_path / "pairs.json"
    path.write_text(objects(pairs))
    assert path.stat().st_size > 8 << 20
    ids, matrix = expected(pairs)
    for workers, encoding in ((1, None), (2, None), (3, "sparse")):
        store = Store(tmp_path / f"store-{workers}")
        options = IngestOptions(workers=workers, memory=16 << 20, encoding=encoding, shards=3)
        manifest = ingest([str(path)], store, options, QUIET)
        assert read_ids(store) == ids
        assert np.array_equal(read_matrix(store), matrix, equal_nan=True)
        assert manifest.encoding == (encoding or "dense")
        assert sum(manifest.dropped.values()) == count - manifest.pairs


@pytest.mark.parametrize("name", ["pairs.ndjson", "pairs.ndjson.gz"])
def test_a_last_line_that_a_cut_falls_into(tmp_path, name):
    """What follows its newline is an empty piece, which is none."""
    line = "[1, 2, 0.5]\n"
    text = (line * ((1 << 20) // len(line) + 1)).encode()  # with 16 MB, one worker's pieces have 1 MB
    assert 0 < len(text) - (1 << 20) < len(line)
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    store = Store(tmp_path / "store")
    ingest([str(tmp_path / name)], store, IngestOptions(workers=1, memory=16 << 20), QUIET)
    check(store, [(1, 2, 0.5)])


def test_the_encoding_is_chosen_by_unique_pairs(tmp_path):
    """60 % of the possible number of records, but each pair twice: 30 % of all pairs is sparse."""
    rng = np.random.default_rng(0)
    all_pairs = [(a, b, 0.5) for a in range(40) for b in range(a)]
    some = [all_pairs[i] for i in rng.choice(len(all_pairs), int(0.3 * len(all_pairs)), replace=False)]
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps(some + [(b, a, score) for a, b, score in some]))
    store = Store(tmp_path / "store")
    manifest = ingest([str(path)], store, INLINE, QUIET)
    assert manifest.encoding == "sparse"
    check(store, some)
    assert store.verify(manifest.name) == []
    path.write_text(json.dumps(all_pairs))
    assert ingest([str(path)], store, INLINE, QUIET).encoding == "dense"


def test_shards_that_begin_where_they_are_told_to(tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    store = Store(tmp_path / "store")
    manifest = ingest([str(tmp_path / "pairs.json")], store, IngestOptions(starts=(0, 1, 3), workers=1), QUIET)
    assert [(shard.row_start, shard.row_stop) for shard in manifest.shards] == [(0, 1), (1, 3), (3, 4)]
    check(store, PAIRS)
    for starts in ((1,), (0, 4), (0, 2, 2), (0, -1), ()):
        with pytest.raises(InputError, match="--starts"):
            ingest([str(tmp_path / "pairs.json")], store, IngestOptions(starts=starts, workers=1), QUIET)


CATALOGUE = [
    {"id": 9, "title": "Nine", "year": 1999, "facts": {"tags": ["x", "y"], "rating": 7.5}},
    {"id": 3, "title": "Three", "year": None, "facts": {"tags": [], "rating": 8}},
    {"id": 7, "title": "Seven"},
]


@pytest.mark.parametrize("kind", [".json", ".ndjson", ".csv", ".tsv", ".parquet"])
def test_items_come_first_in_their_order_with_their_attributes(tmp_path, kind):
    path = tmp_path / f"items{kind}"
    if kind == ".json":
        path.write_text(json.dumps(CATALOGUE))
    elif kind == ".ndjson":
        path.write_text("\n".join(map(json.dumps, CATALOGUE)))
    elif kind == ".parquet":
        pa.parquet.write_table(
            pa.Table.from_pylist([{"id": i["id"], "title": i["title"], "year": i.get("year")} for i in CATALOGUE]), path
        )
    else:
        separator = "," if kind == ".csv" else "\t"
        rows = [["id", "title", "year"], ["9", "Nine", "1999"], ["3", "Three", ""], ["7", "Seven", ""]]
        path.write_text("\n".join(separator.join(row) for row in rows))
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    store = Store(tmp_path / "store")
    ingest([str(tmp_path / "pairs.json")], store, IngestOptions(items=str(path), workers=1), QUIET)
    check(store, PAIRS, items=[9, 3, 7])
    items = Items(store.snapshots / store.resolve())
    expected_payload = {"title": "Nine", "year": 1999}
    if "json" in kind:
        expected_payload |= {"facts.tags": ["x", "y"], "facts.rating": 7.5}
    assert items.payload(0) == expected_payload
    assert items.payload(3) == {}
    assert items.id(3) == 1


@pytest.mark.parametrize("kind", [".json", ".ndjson"])
def test_items_with_any_id(tmp_path, kind):
    for ids in ([-(2**63), 2**63 - 1, 2**53 + 1], ["UNKNOWN", "NA", "null"]):
        items = [{"id": id_, "least": -(2**63), "rating": 8.0, "vector": [0.5, 1.0]} for id_ in ids]
        text = json.dumps(items) if kind == ".json" else "\n".join(map(json.dumps, items))
        (tmp_path / f"items{kind}").write_text(text)
        (tmp_path / "pairs.json").write_text(json.dumps([(ids[2], ids[0], 0.5)]))
        store = Store(tmp_path / "store")
        options = IngestOptions(items=str(tmp_path / f"items{kind}"), workers=1)
        ingest([str(tmp_path / "pairs.json")], store, options, QUIET)
        assert read_ids(store) == ids
        payload = Items(store.snapshots / store.resolve()).payload(1)
        assert payload == {"least": -(2**63), "rating": 8.0}
        assert isinstance(payload["rating"], float)


@pytest.mark.slow
def test_a_build_killed_at_any_moment_harms_nothing_and_the_next_one_cleans_up(tmp_path):
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 3000, (2, 400_000))
    path = tmp_path / "pairs.ndjson"
    path.write_text("\n".join(f"[{x},{y},0.5]" for x, y in zip(a, b, strict=True)))
    root = tmp_path / "store"
    program = "from simshard.cli.main import main; main()"
    command = [sys.executable, "-c", program, "ingest", str(path), "--store", str(root), "--workers", "2"]
    started = time.monotonic()
    subprocess.run(command, check=True, capture_output=True)
    whole = time.monotonic() - started
    store = Store(root)
    first = store.pointer()
    rounds = 6
    for i in range(rounds):
        build = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(whole * (i + 1) / (rounds + 1))
        build.send_signal(signal.SIGKILL)
        build.wait()
        for name in store.names():
            assert store.verify(name) == []
        assert store.pointer().active in store.names()
    before = set(store.names())
    assert first.active in before
    time.sleep(0.5)  # workers end as soon as they notice that the build is gone
    subprocess.run(command, check=True, capture_output=True)
    assert list(store.staging.iterdir()) == []
    assert len(set(store.names()) - before) == 1
    assert store.verify(store.resolve()) == []
    assert not [pid for pid in os.listdir("/proc") if pid.isdigit() and str(root) in cmdline(pid)]


def cmdline(pid):
    try:
        with open(f"/proc/{pid}/cmdline") as file:
            return file.read()
    except OSError:
        return ""
