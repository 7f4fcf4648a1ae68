"""The bundled catalogue: sound, and similar to what a person would say."""

import json
import re
from importlib import resources

import pytest

from simshard.ingest.build_catalogue import ComputeOptions, compute
from simshard.shards.format import ShardReader
from simshard.shards.items import Items
from simshard.shards.store import Store

PATH = resources.files("simshard.examples") / "anime.json"
CATALOGUE = json.loads(PATH.read_text(encoding="utf-8"))


class Silent:
    def phase(self, name, unit, total): ...

    def advance(self, units): ...


@pytest.fixture(scope="module")
def best(tmp_path_factory):
    """The five best of each item, by id."""
    store = Store(tmp_path_factory.mktemp("examples"))
    manifest = compute(str(PATH), store, ComputeOptions(shards=1), Silent())
    folder = store.snapshots / manifest.name
    items, reader = Items(folder), ShardReader(folder, manifest, 0)
    ids = [items.id(row) for row in range(len(items))]
    return {id_: [ids[other] for other in reader.neighbors(row)[0][:5]] for row, id_ in enumerate(ids)}


def test_the_catalogue_is_sound():
    assert 240 <= len(CATALOGUE) <= 270
    assert len({item["id"] for item in CATALOGUE}) == len({item["title"] for item in CATALOGUE}) == len(CATALOGUE)
    uses = {}
    for item in CATALOGUE:
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", item["id"])
        assert item["type"] in ("TV", "Movie", "OVA", "ONA", "Special")
        assert 1960 <= item["year"] <= 2026
        assert 1 <= item["rating"] <= 10
        assert (2 * item["rating"]).is_integer()
        assert item.get("episodes", 1) >= 1
        assert len(set(item["tags"])) == len(item["tags"]) >= 6
        for tag in item["tags"]:
            uses[tag] = uses.get(tag, 0) + 1
    assert min(uses.values()) >= 2


@pytest.mark.parametrize(
    ("title", "kindred"),
    [
        ("naruto", "naruto-shippuden"),
        ("cowboy-bebop", "cowboy-bebop-the-movie"),
        ("haikyu", "haikyu-season-2"),
        ("attack-on-titan", "attack-on-titan-season-2"),
        ("dragon-ball-z", "dragon-ball"),
        ("pokemon", "pokemon-the-series-xy"),
        ("code-geass", "code-geass-r2"),
        ("your-name", "weathering-with-you"),
        ("fruits-basket", "fruits-basket-season-2"),
    ],
)
def test_sequels_and_kindred_titles_come_first(best, title, kindred):
    assert best[title][0] == kindred


def test_kindred_titles_are_near(best):
    assert {"princess-mononoke", "my-neighbor-totoro", "kikis-delivery-service"} <= set(best["spirited-away"])
    assert {"outlaw-star", "trigun"} <= set(best["cowboy-bebop"])
    assert "digimon-adventure" in best["pokemon"]
