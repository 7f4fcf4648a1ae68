"""What values attributes have, against plain Python, and GET /v1/attributes."""

import asyncio
import json
import math
import time
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from simshard.cli.main import app
from simshard.serve.engine import service as service_file
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.schema.answers import Attributes
from simshard.shards import attributes
from simshard.shards.attributes import describe_attributes, origins_of, shorten
from simshard.shards.hidden import Hidden
from simshard.shards.items import Items, write_items
from simshard.shards.store import Snapshot
from tests.builder import random_matrix, write_store
from tests.catalogue import columns_of, items_of
from tests.test_api import client_of, problem
from tests.test_router import POOL

TEXT = st.text(st.characters(codec="utf-8"), max_size=3) | st.sampled_from(["é" * 200, "é" * 201, "x" * 201])
COLUMNS = {
    "title": (pa.string(), TEXT),
    "count": (pa.int64(), st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1])),
    "rating": (pa.float64(), st.sampled_from([0.0, 0.5, -1.25, 1e300, math.nan, math.inf, -math.inf])),
    "tags": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=4)),
}


def described(name, values, most):
    """The same by plain Python."""
    kind = {"title": "string", "count": "int64", "rating": "float64", "tags": "list<string>"}[name]
    if name == "tags":
        sets = [{each for each in value or () if each is not None} for value in values]
        present, counts = sum(map(bool, sets)), Counter(each for one in sets for each in one)
    else:
        there = [value for value in values if value is not None and not (name == "rating" and not math.isfinite(value))]
        present, counts = len(there), Counter(there)
    number = name in ("count", "rating")
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    listed = [(plain(value), count) for value, count in ordered if number or len(value) <= 200]
    if len(counts) > most if number else name != "tags" and 1 < present == len(counts):
        listed = []
    return {
        "name": name,
        "type": kind,
        "present": present,
        "distinct": len(counts),
        "min": plain(min(counts)) if number and counts else None,
        "max": plain(max(counts)) if number and counts else None,
        "values": [{"value": value, "count": count} for value, count in listed[:most]],
    }


def plain(value):
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value


@settings(deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()})),
    most=st.sampled_from([0, 1, 2, 3, 100]),
    piece=st.sampled_from([1, 3, 1 << 18]),
)
@example(rows=[], most=5, piece=1)
@example(rows=[{"title": "b", "count": 1, "rating": None, "tags": ["x", "x", "y"]}] * 3, most=1, piece=2)
def test_described_as_plain_python_does(tmp_path_factory, rows, most, piece):
    columns = {name: pa.array([row[name] for row in rows], kind) for name, (kind, _) in COLUMNS.items()}
    folder = tmp_path_factory.mktemp("items")
    write_items(folder, pa.array(range(len(rows)), pa.int64()), columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "_PIECE", piece)
        found = describe_attributes(Items(folder), most)
    assert found == [described(name, [row[name] for row in rows], most) for name in COLUMNS]
    for fewer in range(most + 1) if most < 100 else (0, 1, 50):
        expected = [described(name, [row[name] for row in rows], fewer) for name in COLUMNS]
        assert shorten(found, fewer) == expected


def test_values_of_many_items_are_the_same(tmp_path):
    items = items_of(20_000)
    write_items(tmp_path, pa.array(range(len(items)), pa.int64()), columns_of(items))
    found = {each["name"]: each for each in describe_attributes(Items(tmp_path), 100)}
    assert (found["title"]["distinct"], found["title"]["values"]) == (20_000, [])
    expected = described("tags", [item["tags"] for item in items], 100)
    assert found["tags"] == expected


def test_lists_are_cut_by_their_elements(tmp_path, monkeypatch):
    lists = [["x"] * 7, [], None, ["a", "b"], ["a"], *[None] * 20, ["c", "c", "c"], [], ["d"], *[["e", "f"]] * 5]
    write_items(tmp_path, pa.array(range(len(lists)), pa.int64()), {"tags": pa.array(lists, pa.list_(pa.string()))})
    pieces, count = [], attributes._counted_piece

    def watched(piece):
        pieces.append(piece.to_pylist())
        return count(piece)

    monkeypatch.setattr(attributes, "_PIECE", 4)
    monkeypatch.setattr(attributes, "_counted_piece", watched)
    assert describe_attributes(Items(tmp_path), 9) == [described("tags", lists, 9)]
    assert [each for piece in pieces for each in piece] == lists
    sizes = [sum(len(each or ()) for each in piece) for piece in pieces]
    assert sizes == [7, 3, 4, 4, 4, 2]


def test_what_is_listed_is_bounded_in_bytes(tmp_path):
    columns = {
        "one": pa.array(["same"] * 4),
        "each": pa.array(["a", "b", "c", "d"]),
        "alone": pa.array(["a", None, None, None]),
        "long": pa.array(["x" * 201, "x" * 201, "y" * 200, None]),
        "tags": pa.array([["a"], ["b"], ["z" * 201], []]),
    }
    write_items(tmp_path, pa.array(range(4), pa.int64()), columns)
    found = {each["name"]: each for each in describe_attributes(Items(tmp_path), 1000)}
    listed = {name: [each["value"] for each in about["values"]] for name, about in found.items()}
    assert listed == {"one": ["same"], "each": [], "alone": ["a"], "long": ["y" * 200], "tags": ["a", "b"]}
    assert {name: about["distinct"] for name, about in found.items()} == {
        "one": 1,
        "each": 4,
        "alone": 1,
        "long": 2,
        "tags": 3,
    }


def test_origins_are_the_most_frequent_and_nothing_that_could_be_more_than_one():
    addresses = [
        *["https://img.example.com/a.png"] * 3,
        *["http://10.0.0.1:8080/b", "HTTP://10.0.0.1:8080?x", "http://10.0.0.1:8080"],
        "https://img.example.com:443/a",
        "https://a_b.c__d.example/x",
        "https://_a.example/x",
        "https://a.example_/x",
        "https://cdn-1.example#x",
        None,
        "",
        "/relative.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "ftp://example.com/x",
        "https://user@example.com/x",
        "https://user:secret@example.com/x",
        "https://*.example.com/x",
        "https://example.com;script-src *",
        "https://example.com 'unsafe-inline'/x",
        "https://example.com\n/x",
        "https://example.com\n",
        "https://example.com\\evil/x",
        "https://example.com:/x",
        "https://example.com:123456/x",
        "https://[::1]/x",
        "https://-x/y",
        "https://é.example/x",
        " https://example.com/x",
        "https:///x",
    ]
    assert origins_of(pa.array(addresses)) == (
        "http://10.0.0.1:8080",
        "https://img.example.com",
        "https://a_b.c__d.example",
        "https://cdn-1.example",
        "https://img.example.com:443",
    )
    assert origins_of(pa.array([], pa.string())) == ()
    assert origins_of(pa.array([None], pa.string())) == ()
    many = [f"https://host{i}.example/{j}" for i in range(20) for j in range(20 - i)]
    assert origins_of(pa.array(many)) == tuple(f"https://host{i}.example" for i in range(8))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    items = items_of(40)
    columns = columns_of(items)
    columns["poster"] = pa.array([f"https://host{row % 3}.example/{row}" if row else None for row in range(40)])
    return write_store(tmp_path_factory.mktemp("attributes"), random_matrix(2, 40), attributes=columns)


def service_of(store, image=None):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL, image))
    return service


async def test_the_route_answers_what_there_is(store):
    items = items_of(40)
    async with client_of(service_of(store), store) as client:
        answer = await client.get("/v1/attributes?values=2")
        body = answer.json()
        assert (body["snapshot"], body["items"], body["image"]) == (store.resolve(), 40, None)
        assert [each["name"] for each in body["attributes"]] == ["title", "type", "year", "rating", "tags", "poster"]
        kind = body["attributes"][1]
        expected = described("title", [item["type"] for item in items], 2)
        assert kind == {**expected, "name": "type"}
        everything = (await client.get("/v1/attributes")).json()
        tags = described("tags", [item["tags"] for item in items], 100)
        assert everything["attributes"][4] == tags
        assert everything["attributes"][0]["values"] == []  # every title is another one
        years = [(await client.get(f"/v1/attributes?values={most}")).json()["attributes"][2] for most in (5, 1000)]
        assert [described("count", [item["year"] for item in items], most) for most in (5, 1000)] == [
            {**year, "name": "count"} for year in years
        ]
        none = (await client.get("/v1/attributes?values=0")).json()
        assert all(each["values"] == [] for each in none["attributes"])
        assert [each["distinct"] for each in none["attributes"]] == [
            each["distinct"] for each in everything["attributes"]
        ]


async def test_many_questions_at_once_take_one_description_and_no_more_threads(store, monkeypatch):
    """Whatever `values` say, and however many snapshots are asked, one thread counts at a time."""
    running, seen = [], []

    def slow(items, most):
        running.append(most)
        seen.append((len(running), most))
        time.sleep(0.2)
        try:
            return describe_attributes(items, most)
        finally:
            running.pop()

    monkeypatch.setattr(service_file, "describe_attributes", slow)
    service = service_of(store)
    async with client_of(service, store) as client:
        asked = [client.get(f"/v1/attributes?values={values}") for values in range(100, 108)]
        answers = await asyncio.gather(*asked)
        assert ([answer.status_code for answer in answers], seen) == ([200] * 8, [(1, 1000)])
        assert (await client.get("/v1/attributes?values=3")).status_code == 200
        assert len(seen) == 1
    tables = [service.table, replace(service.table, snapshot=SimpleNamespace(name="another"))]
    fresh = service_of(store)
    await asyncio.gather(*(fresh._described(table) for table in tables))
    assert seen[1:] == [(1, 1000)] * 2


async def test_integers_that_many_readers_would_round_are_text(tmp_path):
    counts = pa.array([2**53 + 1, 2**53 + 1, 2**53, -5], pa.int64())
    store = write_store(tmp_path, random_matrix(1, 4), attributes={"count": counts})
    async with client_of(service_of(store), store) as client:
        (about,) = Attributes.model_validate((await client.get("/v1/attributes")).json(), strict=True).attributes
    assert (about.min, about.max) == (-5, "9007199254740993")
    assert [(each.value, each.count) for each in about.values] == [("9007199254740993", 2), (-5, 1), (2**53, 1)]


async def test_the_answer_is_kept_and_does_not_depend_on_what_is_hidden(store):
    service = service_of(store)
    async with client_of(service, store) as client:
        first = await client.get("/v1/attributes")
        assert (first.headers["x-cache"], first.headers["cache-control"]) == ("miss", "no-cache")
        assert "x-shards" not in first.headers
        service.hide(Hidden(1, ((3, ""),)))
        again = await client.get("/v1/attributes")
        assert (again.headers["x-cache"], again.content) == ("memory", first.content)
        tag = {"if-none-match": first.headers["etag"]}
        assert (await client.get("/v1/attributes", headers=tag)).status_code == 304
        assert (await client.get("/v1/attributes?values=3", headers=tag)).status_code == 200
    async with client_of(service_of(store, "poster"), store) as client:
        assert (await client.get("/v1/attributes", headers=tag)).json()["image"] == "poster"


@pytest.mark.parametrize(("image", "told"), [("poster", "poster"), ("year", None), ("tags", None), ("nothing", None)])
async def test_the_image_is_a_text_attribute_that_there_is(store, image, told):
    async with client_of(service_of(store, image), store) as client:
        assert (await client.get("/v1/attributes")).json()["image"] == told


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("values=-1", "values"),
        ("values=1001", "values"),
        ("values=ten", "values"),
        ("values=1.5", "values"),
        ("values=", "values"),
        ("values=1&values=2", "values"),
        ("limit=3", "limit"),
    ],
)
async def test_what_cannot_be_meant(store, query, field):
    async with client_of(service_of(store), store) as client:
        await problem(client, 422, field, url=f"/v1/attributes?{query}")


async def test_a_store_without_attributes_and_a_service_without_a_snapshot(tmp_path):
    store = write_store(tmp_path, random_matrix(1, 5))
    service = service_of(store, "poster")
    async with client_of(service, store, "k3y") as client:
        await problem(client, 401, url="/v1/attributes")
        answer = await client.get("/v1/attributes", headers={"authorization": "Bearer k3y"})
        body = answer.json()
        assert (body["items"], body["image"], body["attributes"]) == (5, None, [])
        assert answer.headers["cache-control"] == "private, no-cache"
    service.close(service.table)
    async with client_of(service, store) as client:
        await problem(client, 503, url="/v1/attributes")


@pytest.mark.parametrize("image", ["nothing", "year"])
@pytest.mark.parametrize("way", ["flag", "file"])
def test_serve_refuses_an_image_that_the_snapshot_does_not_have(store, tmp_path, image, way):
    (tmp_path / "settings.toml").write_text(f"image = {json.dumps(image)}")
    options = ["--image", image] if way == "flag" else ["--settings", str(tmp_path / "settings.toml")]
    result = CliRunner().invoke(app, ["serve", "--store", str(store.root), *options])
    assert result.exit_code == 1
    assert f"image '{image}': the items have no text attribute of that name" in result.stderr
    assert (
        "there are title (string), type (string), year (int64), rating (float64), tags (list<string>)" in result.stderr
    )
    assert len(result.stderr.strip().splitlines()) == 1
