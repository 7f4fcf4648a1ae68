"""Every fault of the item file beside pairs: one sentence with the file, exit code 1, nothing published."""

import json

import pytest

from simshard.cli.main import app
from tests.support.refused_pairs import GOOD, RUNNER


@pytest.mark.parametrize(
    ("items", "name", "reason"),
    [
        ('[{"id":1},{"id":2},{"id":1}]', "items.json", "items 1 and 3 have the same id 1"),
        ('[{"id":1},{"id":null}]', "items.json", "item 2 has no id"),
        ('[{"id":1},{"title":"x"}]', "items.json", "item 2 has no id"),
        ('[{"key":1}]', "items.json", "no column 'id'"),
        ('[{"id":1.5}]', "items.json", "ids are integers or text"),
        ('[{"id":"1"}]', "items.json", "its ids are integers, but those of"),
        ('[{"id":1,"x":[1]},{"id":2,"x":"y"}]', "items.json", "'x'"),
        ('[{"id":1,"_index_row":5}]', "items.json", "reserved"),
        ('{"id":1}\n{"id":', "items.ndjson", "line 2"),
        ("[1]", "items.json", "item 1 is not an object"),
        ("[]", "items.json", "no items"),
        ('[{"id":1', "items.json", "not valid JSON after item 0"),
        ("id\n1\n1\n", "items.csv", "items 1 and 2 have the same id 1"),
        ("id,x\n1\n", "items.csv", "cannot be read as a catalogue"),
        ("x", "items.xlsx", "not a catalogue by its name"),
    ],
)
def test_faults_of_the_catalogue(tmp_path, items, name, reason):
    pairs, path, store = tmp_path / "pairs.json", tmp_path / name, tmp_path / "store"
    pairs.write_text(json.dumps(GOOD))
    path.write_text(items)
    result = RUNNER.invoke(app, ["ingest", str(pairs), "--store", str(store), "--items", str(path)])
    assert result.exit_code == 1
    assert reason in result.stderr
    assert name in result.stderr or "reserved" in reason
    assert not (store / "current.json").exists()
