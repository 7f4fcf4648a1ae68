"""A server of a catalogue of real titles, a browser, and visits of its page."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.browser import Visit, chromium
from tests.support.command import command
from tests.support.page import MARKUP, joined
from tests.support.server import stop_all

ANIME = Path(__file__).resolve().parents[3] / "examples" / "anime.json"


@pytest.fixture(scope="package")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    items = json.loads(ANIME.read_text())
    items.append({"id": "x/<y>?&#", "title": MARKUP, "type": "TV", "year": 1999, "tags": ["<i>Sea</i>", "Drama"]})
    (folder / "items.json").write_text(json.dumps(items))
    subprocess.run(command("compute", folder / "items.json", "--store", folder / "store"), check=True)
    return folder / "store"


@pytest.fixture(scope="package")
def server(cluster, store):
    server = joined(cluster, store, "page")
    yield server
    stop_all(server)


@pytest.fixture(scope="package")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def visit(browser, server):
    """Visits of the page, which must ask no other host and complain of nothing."""
    visits = []

    def begin(query="", url=None, **options):
        visits.append(Visit(browser, url or f"{server.url}/{query}", **options))
        return visits[-1].page

    begin.visits = visits
    try:
        yield begin
        for each in visits:
            assert each.others() == set()
            assert each.faults == []
    finally:
        for each in visits:
            each.context.close()
