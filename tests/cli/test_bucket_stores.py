"""Every command takes a URI for a store: what is built, asked, changed and copied is as in a folder."""

import json
import secrets

import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.shards.bucket_store import BucketStore
from simshard.shards.store import Store
from tests.support.s3 import BUCKET, running_s3

PAIRS = [{"a": a, "b": b, "score": 1 / (a + b)} for a in range(1, 12) for b in range(a + 1, 12)]
ITEMS = "".join(f'{{"id": {i}, "title": "Title {i}", "year": {1990 + i}}}\n' for i in range(1, 12))


@pytest.fixture(scope="module")
def s3(tmp_path_factory):
    with running_s3(SIMSHARD_CACHE_DIR=str(tmp_path_factory.mktemp("cache"))) as server:
        yield server


@pytest.fixture
def uri(s3):
    return f"s3://{BUCKET}/{secrets.token_hex(4)}"


@pytest.fixture
def inputs(tmp_path):
    (tmp_path / "pairs.json").write_text(json.dumps(PAIRS))
    (tmp_path / "items.ndjson").write_text(ITEMS)
    return ["ingest", str(tmp_path / "pairs.json"), "--items", str(tmp_path / "items.ndjson")]


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result


def test_a_store_in_a_bucket_answers_as_one_in_a_folder(uri, inputs, tmp_path):
    run(*inputs, "--store", uri)
    run(*inputs, "--store", tmp_path / "store")
    there = BucketStore(uri)
    assert there.pointer().active == there.names()[0]
    assert [info.checksum for info in there.manifest().files] == [
        info.checksum for info in Store(tmp_path / "store").manifest().files
    ]
    for words in (
        ["similar", 3, "--json"],
        ["recommend", "--positive", 3, "--positive", "5=2", "--explain", "--json"],
        ["items", "search", "title", "--json"],
        ["items", "show", 3, "--json"],
    ):
        answers = [json.loads(run(*words, "--store", store).stdout) for store in (uri, tmp_path / "store")]
        assert answers[0].pop("snapshot") == there.resolve() and answers[1].pop("snapshot")
        assert answers[0] == answers[1]
    run("items", "hide", 5, "--store", uri)
    assert 5 not in [hit["id"] for hit in json.loads(run("similar", 3, "--json", "--store", uri).stdout)["hits"]]
    run("items", "unhide", 5, "--store", uri)
    assert 5 in [hit["id"] for hit in json.loads(run("similar", 3, "--json", "--store", uri).stdout)["hits"]]
    exported = [tmp_path / name for name in ("there.ndjson", "here.ndjson")]
    run("export", "--store", uri, "--to", exported[0])
    run("export", "--store", tmp_path / "store", "--to", exported[1])
    assert exported[0].read_bytes() == exported[1].read_bytes()


def test_snapshots_in_a_bucket_are_listed_switched_checked_copied_and_removed(uri, inputs, tmp_path):
    run(*inputs, "--store", uri)
    run(*inputs, "--store", uri, "--no-activate")
    first, second = BucketStore(uri).names()
    listed = json.loads(run("snapshots", "list", "--store", uri, "--json").stdout)
    assert listed["active"] == first and [each["name"] for each in listed["snapshots"]] == [first, second]
    assert second in run("snapshots", "activate", second, "--store", uri).stdout
    assert first in run("snapshots", "rollback", "--store", uri).stdout
    assert "sound" in run("snapshots", "verify", "--store", uri).stdout
    shown = json.loads(run("snapshots", "show", "--store", uri, "--json").stdout)
    assert (shown["name"], shown["items"]) == (first, 11)
    copied = run("snapshots", "copy", uri, tmp_path / "copy", "--activate").stdout
    assert copied.startswith(first) and Store(tmp_path / "copy").pointer().active == first
    assert Store(tmp_path / "copy").verify(first) == []
    run("snapshots", "copy", tmp_path / "copy", f"{uri}/again", first)
    assert BucketStore(f"{uri}/again").verify(first) == []
    run("snapshots", "copy", f"{uri}/again", f"{uri}/third", first)
    assert BucketStore(f"{uri}/third").verify(first) == []
    assert "no active snapshot" in run("snapshots", "copy", f"{uri}/again", f"{uri}/third", code=1).stderr


def test_prune_tells_what_it_leaves(uri, inputs):
    for _ in range(3):
        run(*inputs, "--store", uri)
    names = BucketStore(uri).names()
    assert run("snapshots", "prune", "--store", uri).stdout == f"in use or younger, left: {names[0]}\n"
    assert run("snapshots", "prune", "--store", uri, "--older-than", 0).stdout == f"removed {names[0]}\n"
    assert run("snapshots", "prune", "--store", uri, "--older-than", 0).stdout == "nothing to remove\n"


def test_a_fault_is_one_sentence(inputs, uri):
    told = run(*inputs, "--store", "s3://none/x", code=1).stderr
    assert "simshard: s3://none/x: cannot be listed: there is no such bucket; create it, or name another\n" in told
    told = run("similar", 3, "--store", "ftp://a/b", code=1).stderr
    assert (
        told.startswith("simshard: ftp://a/b: a store is a path, or one of s3://BUCKET/FOLDER")
        and told.count("\n") == 1
    )
    assert "no active snapshot" in run("similar", 3, "--store", uri, code=1).stderr
