"""`simshard compute` as a command, and what its scores must be."""

import json
import math

import pytest
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.ingest.features import parse_feature
from simshard.shards.items import Items
from simshard.shards.store import Store
from tests.support import scores
from tests.support.builder import read_matrix

RUNNER = CliRunner()
ITEMS = [
    {"id": 1, "title": "One", "tags": ["a", "b"], "year": 2000, "rating": 8.5, "type": "TV"},
    {"id": 2, "title": "Two", "tags": ["b"], "year": 2004, "rating": None, "type": "Movie"},
    {"id": 3, "title": "Three", "tags": ["a", "b", "c"], "year": 2010, "rating": 6.5, "type": "TV"},
]
DEFAULTS = [
    parse_feature(text) for text in ("tags:set=0.6", "rating:number=0.2", "year:number=0.15", "type:category=0.05")
]


def run(*arguments, code=0):
    result = RUNNER.invoke(app, ["compute", *map(str, arguments)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def refused(folder, items, *arguments, code=1):
    """What is said of a catalogue that cannot be computed; nothing was published."""
    path = folder / "items.json"
    if items is not None:
        path.write_text(json.dumps(items))
    told = run(path, "--store", folder / "store", *arguments, code=code).stderr
    assert not list((folder / "store").glob("snapshots/*"))
    return " ".join(told.replace("│", " ").split())


def assert_scores(store, items, specs):
    matrix = read_matrix(Store(store))
    for a in range(len(items)):
        for b in range(len(items)):
            right = None if a == b else scores.score(items, specs, items[a], items[b])
            assert matrix[a, b] == pytest.approx(math.nan if right is None else right, abs=1e-6, nan_ok=True)


def payloads(store):
    store = Store(store)
    items = Items(store.snapshots / store.resolve())
    return {items.id(row): items.payload(row) for row in range(len(items))}
