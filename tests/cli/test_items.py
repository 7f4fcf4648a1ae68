"""`items hide`, `unhide` and `show`, and what other commands tell of hidden items."""

import json

import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.shards.hidden import read_hidden
from tests.support.titled_store import write_titled


@pytest.fixture
def store(tmp_path):
    return write_titled(tmp_path / "store")


def test_the_commands(store):
    def run(*arguments, code=0):
        result = CliRunner().invoke(app, [*map(str, arguments), "--store", str(store.root)])
        assert result.exit_code == code, result.output
        return result

    assert "3: hidden (version 1 of the list)" in run("items", "hide", 3).stdout
    assert json.loads(run("items", "hide", 4, "--json").stdout) == {"id": 4, "hidden": True, "version": 2}
    assert "none" in run("items", "hide", "none", code=1).stderr
    assert "hidden" in run("items", "show", 3).stdout
    hits = json.loads(run("similar", 5, "--limit", 50, "--json").stdout)["hits"]
    assert not {3, 4} & {hit["id"] for hit in hits}
    assert [each["id"] for each in json.loads(run("snapshots", "show", "--json").stdout)["hidden"]["items"]] == [3, 4]
    assert "since" in run("snapshots", "show").stdout
    assert "3: shown" in run("items", "unhide", 3).stdout
    assert [id_ for id_, _ in read_hidden(store).items] == [4]
