import json
import re

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.cli.output import show_size, size_option
from simshard.shards.store import Store
from tests.support import oracle
from tests.support.builder import random_matrix, write_store

RUNNER = CliRunner()
MATRIX = random_matrix(11, 25)


def run(*arguments, code=0):
    result = RUNNER.invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def store(tmp_path):
    return write_store(tmp_path / "store", MATRIX)


def test_help_of_every_command():
    top = run("--help").stdout
    for command in ("ingest", "export", "serve", "similar", "recommend", "snapshots", "demo"):
        assert command in top
        assert "Usage" in run(command, "--help").stdout
    assert re.match(r"simshard \d+\.\d+", run("--version").stdout)


def test_ingest_tells_what_was_built_and_json_is_the_manifest(tmp_path):
    path = tmp_path / "pairs.json"
    path.write_text(json.dumps([[1, 2, 0.5], [2, 1, 0.75], [3, 3, 1], [2, 3, 0.1]]))
    told = run("ingest", path, "--store", tmp_path / "store").stdout
    for words in ("3 items, 2 pairs, dense, 2 shards", "dropped 1 self-pairs, 1 duplicates"):
        assert words in told
    first = Store(tmp_path / "store").resolve()
    manifest = json.loads(run("ingest", path, "--store", tmp_path / "store", "--no-activate", "--json").stdout)
    assert manifest["pairs"] == 2
    assert Store(tmp_path / "store").resolve() == first != manifest["name"]


def test_similar_and_recommend_from_a_store(store):
    answer = json.loads(run("similar", 4, "--store", store.root, "--limit", 3, "--json").stdout)
    assert [hit["id"] for hit in answer["hits"]] == [row for row, _ in oracle.hits(MATRIX, [oracle.Seed(4)], limit=3)]
    arguments = ("--positive", "4=2.5", "--positive", 6, "--negative", "9=0.5", "--exclude", 1, "--explain")
    seeds = [oracle.Seed(4, 2.5), oracle.Seed(6), oracle.Seed(9, 0.5, True)]
    answer = json.loads(run("recommend", *arguments, "--store", store.root, "--json").stdout)
    assert [hit["id"] for hit in answer["hits"]] == [row for row, _ in oracle.hits(MATRIX, seeds, exclude=[1])]
    table = run("recommend", *arguments, "--positive", "nobody", "--store", store.root)
    assert "because of" in table.stdout
    assert "unknown ids: nobody" in table.stderr


def test_similar_with_everything(tmp_path):
    numbers = pa.array([row % 5 for row in range(25)], pa.int64())
    titles = pa.array([f"[red]Title[/red] {row}" for row in range(25)])
    store = write_store(tmp_path / "store", MATRIX, attributes={"n": numbers, "title": titles}).root
    low = '{"must": [{"key": "n", "range": {"lt": 3}}]}'
    (tmp_path / "low.json").write_text(low)

    def ask(*arguments):
        return json.loads(run("similar", 4, "--store", store, "--json", *arguments).stdout)["hits"]

    allowed = [row for row in range(25) if row % 5 < 3]
    others = set(range(25)) - set(allowed)
    expected = oracle.hits(MATRIX, [oracle.Seed(4)], exclude=others, limit=6)
    for given in (low, f"@{tmp_path / 'low.json'}"):
        assert [(hit["id"], np.float32(hit["score"])) for hit in ask("--filter", given, "--limit", 6)] == expected
    grouped = ask("--group-by", "n", "--group-size", 2, "--limit", 8)
    assert max(sum(hit["payload"]["n"] == n for hit in grouped) for n in range(5)) == 2
    boosted = ask("--boost", f"{low}=100", "--limit", 5, "--explain")
    assert all(hit["id"] in allowed and hit["explain"][-1]["boost"] == 0 for hit in boosted)
    filled = ask("--score-threshold", 99, "--fallback", "-n", "--limit", 3)
    assert [(hit["id"], hit["source"]) for hit in filled] == [(0, "fallback"), (5, "fallback"), (10, "fallback")]
    pool = oracle.scored(MATRIX, [oracle.Seed(4)], never=[expected[0][0]])[:40]
    spread = oracle.diverse(pool, MATRIX, 0.5, 4, 1.0)
    found = ask("--diversity", 0.5, "--limit", 4, "--exclude", expected[0][0])
    assert [hit["id"] for hit in found] == [row for row, _ in spread]
    page = ask("--limit", 3, "--offset", 2, "--snapshot", Store(store).resolve())
    assert [hit["id"] for hit in page] == [row for row, _ in oracle.hits(MATRIX, [oracle.Seed(4)], limit=3, offset=2)]
    assert "no hits" in run("similar", 4, "--store", store, "--score-threshold", 99).stderr
    table = run("similar", 4, "--store", store, "--fallback", "n", "--score-threshold", 99, "--limit", 1).stdout
    assert "fallback" in table
    assert "[red]Title[/red] 9" in table
    for arguments, words in [
        (("--filter", "clean"), "no filter is named 'clean'"),
        (("--filter", '{"must": [{"key": "x", "is_null": true}]}'), "no attribute 'x'; there are n, title"),
        (("--snapshot", "20200101T000000Z-000000"), "no snapshot"),
        (("--diversity", 0.5, "--offset", 1), "offset"),
    ]:
        assert words in run("similar", 4, "--store", store, *arguments, code=1).stderr
    for arguments in (("--filter", "{"), ("--filter", "@none"), ("--boost", "x"), ("--boost", "{=2")):
        run("similar", 4, "--store", store, *arguments, code=2)


def test_questions_that_cannot_be_answered(store, tmp_path):
    assert "not in snapshot" in run("similar", "none", "--store", store.root, code=1).stderr
    assert "twice" in run("recommend", "--positive", 1, "--negative", 1, "--store", store.root, code=1).stderr
    assert "weight" in run("recommend", "--positive", "1=-2", "--store", store.root, code=1).stderr
    assert "no active snapshot" in run("similar", 1, "--store", tmp_path / "none", code=1).stderr
    assert "no answer" in run("similar", 1, "--url", "http://127.0.0.1:9", code=1).stderr
    run("similar", 1, code=2)
    run("similar", 1, "--store", store.root, "--limit", 0, code=2)


def test_snapshots(store):
    first = store.resolve()
    write_store(store.root, MATRIX, "sparse")
    second = store.resolve()
    listed = run("snapshots", "list", "--store", store.root).stdout
    assert re.search(rf"\*\s+{second}", listed)
    assert first in listed
    assert json.loads(run("snapshots", "list", "--json", "--store", store.root).stdout)["active"] == second
    assert json.loads(run("snapshots", "show", first, "--json", "--store", store.root).stdout)["name"] == first
    assert "shard-00001.arrow" in run("snapshots", "show", "--store", store.root).stdout
    assert first in run("snapshots", "rollback", "--store", store.root).stdout
    assert second in run("snapshots", "activate", second, "--store", store.root).stdout
    assert "sound" in run("snapshots", "verify", "--store", store.root).stdout
    assert "no snapshot" in run("snapshots", "activate", "x", "--store", store.root, code=1).stderr
    path = store.snapshots / second / "shard-00000.arrow"
    data = bytearray(path.read_bytes())
    data[len(data) // 3] ^= 4
    path.write_bytes(data)
    assert "shard-00000.arrow: checksum" in run("snapshots", "verify", "--store", store.root, code=1).stderr
    store.activate(first)
    assert f"removed {second}" in run("snapshots", "prune", "--keep", 0, "--store", store.root).stdout
    assert "nothing" in run("snapshots", "prune", "--store", store.root).stdout


def test_sizes():
    assert [size_option(text) for text in ("5", "1KB", "2 MiB", "0.5g", "1T")] == [
        5,
        1 << 10,
        2 << 20,
        1 << 29,
        1 << 40,
    ]
    assert [show_size(count) for count in (5, 2048, 5 << 30)] == ["5 B", "2.0 KB", "5.0 GB"]


def test_items_are_found_and_shown(tmp_path):
    titles = pa.array(["Naruto", "Boruto: Naruto Next Generations", None, *(f"Other {i}" for i in range(22))])
    tags = pa.array([["Ninja", "War"]] * 25)
    store = write_store(tmp_path / "store", MATRIX, attributes={"title": titles, "tags": tags}).root
    assert run("items", "search", "nar", "--store", store).stdout.split() == [
        "id",
        "title",
        "0",
        "Naruto",
        "1",
        "Boruto:",
        "Naruto",
        "Next",
        "Generations",
    ]
    body = json.loads(run("items", "search", "nar", "--limit", 1, "--store", store, "--json").stdout)
    assert (body["total"], [item["id"] for item in body["items"]]) == (2, [0])
    assert "21 more" in run("items", "search", "oth", "--limit", 1, "--store", store).stderr
    assert "no title matches" in run("items", "search", "zzz", "--store", store).stderr
    assert re.search(r"tags +Ninja, War", run("items", "show", 1, "--store", store).stdout)
    assert json.loads(run("items", "show", 2, "--store", store, "--json").stdout)["title"] is None
    assert "not in snapshot" in run("items", "show", "zzz", "--store", store, code=1).stderr


def test_a_snapshot_is_drawn(store, tmp_path):
    path = tmp_path / "plot.png"
    run("snapshots", "show", "--store", store.root, "--plot", path)
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    image = matplotlib.image.imread(path)
    assert image.shape[0] > 300
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 10
    assert (
        "cannot be drawn" in run("snapshots", "show", "--store", store.root, "--plot", tmp_path / "x.y", code=1).stderr
    )
    missing = tmp_path / "none" / "x.png"
    assert "cannot be drawn" in run("snapshots", "show", "--store", store.root, "--plot", missing, code=1).stderr


def test_help_keeps_what_stands_in_brackets():
    told = RUNNER.invoke(app, ["compute", "--help"], env={"COLUMNS": "200"}).stdout
    told = " ".join(told.replace("│", " ").split())
    for words in ("COLUMN:KIND[:OPTION]=WEIGHT", "tags:set=0.6", "Column of the ids (default: id)."):
        assert words in told
