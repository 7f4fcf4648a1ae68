"""12.5 million pairs of real titles: one JSON array, ingested, served, asked."""

import json
import random
import subprocess

import httpx
import numpy as np
import pytest

from benchmarks import anime
from simshard.shards.store import Store
from tests.support import oracle
from tests.support.command import command
from tests.support.server import Server, gcs_address, stop_all
from tests.support.skips import skip_unless_ci

TITLES = 5_000


@pytest.fixture(scope="module")
def catalogue():
    if not anime.DATA.exists():
        skip_unless_ci(
            f"the real catalogue is not there: {anime.DATA.parent.name}/{anime.DATA.name} beside the project"
        )
    return anime.load(TITLES)


@pytest.fixture(scope="module")
def store(catalogue, tmp_path_factory):
    ids, titles, matrix = catalogue
    folder = tmp_path_factory.mktemp("anime")
    items = folder / "items.ndjson"
    items.write_text("\n".join(json.dumps({"key": i, "name": title}) for i, title in zip(ids, titles, strict=True)))
    path = folder / "pairs.json"
    pairs = anime.write_json(path, ids, matrix)
    arguments = ("ingest", path, "--store", folder / "store", "--items", items, "--id", "key")
    built = subprocess.run(command(*arguments), capture_output=True, text=True, check=True)
    assert f"{pairs:,} pairs" in built.stdout
    path.unlink()
    return Store(folder / "store")


@pytest.fixture(scope="module")
def url(store, cluster):
    options = (
        "--address",
        gcs_address(cluster.folder),
        "--name",
        "anime",
        "--route-prefix",
        "/anime",
        "--redis",
        "off",
    )
    server = Server(store.root, *options, "--port", cluster.server.port)
    yield server.url
    stop_all(server)


def test_the_store_has_all_pairs_and_the_titles_of_the_catalogue(store, catalogue):
    manifest = store.manifest()
    assert (manifest.encoding, manifest.pairs) == ("dense", TITLES * (TITLES - 1) // 2)
    assert manifest.items == TITLES
    assert store.verify(manifest.name) == []


def test_answers_over_http_equal_the_oracle(url, catalogue):
    ids, titles, matrix = catalogue
    rng = random.Random(0)
    row_of = {id_: row for row, id_ in enumerate(ids)}
    with httpx.Client(base_url=url, timeout=30) as client:
        for row in rng.sample(range(TITLES), 200):
            hits = client.get(f"/v1/items/{ids[row]}/similar").json()["hits"]
            scores = np.nan_to_num(matrix[row], nan=-np.inf)
            expected = np.lexsort((np.arange(TITLES), -scores))[:10]
            assert [(row_of[hit["id"]], np.float32(hit["score"])) for hit in hits] == [(i, scores[i]) for i in expected]
            assert [hit["payload"]["title"] for hit in hits] == [titles[i] for i in expected]
        for _ in range(100):
            seeds = [oracle.Seed(row, rng.choice([1.0, 0.3, 2.5])) for row in rng.sample(range(TITLES), 5)]
            body = {"positive": [{"id": ids[seed.row], "weight": seed.weight} for seed in seeds]}
            hits = client.post("/v1/recommend", json=body).json()["hits"]
            found = [(row_of[hit["id"]], np.float32(hit["score"])) for hit in hits]
            assert found == oracle.hits(matrix, seeds)
