"""`ingest` with options that cannot be meant, and files that are not there."""

import json

from simshard.cli.main import app
from tests.support.refused_pairs import GOOD, RUNNER


def test_files_that_are_not_there(tmp_path):
    for arguments in (["nothing.json"], ["nothing.json.gz"], [str(tmp_path)], ["-", "-"]):
        result = RUNNER.invoke(app, ["ingest", *arguments, "--store", str(tmp_path / "store"), "--format", "json"])
        assert result.exit_code == 1
        assert arguments[0] in result.stderr


def test_usage_errors_are_exit_code_2(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD))
    for options in (
        ["--fields", "a,b"],
        ["--memory", "much"],
        ["--encoding", "zip"],
        ["--shards", "0"],
        ["--top", "0"],
        ["--starts", "1,2"],
        ["--starts", "0,x"],
        ["--format", "csv"],
        ["--no-such"],
    ):
        result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(tmp_path / "store"), *options])
        assert result.exit_code == 2, options


def test_a_store_that_cannot_be_written(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD))
    (tmp_path / "file").touch()
    result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot make the store's folder" in result.stderr
