"""GET /v1/attributes."""

import asyncio
import time
from dataclasses import replace
from types import SimpleNamespace

import pyarrow as pa
import pytest

from simshard.serve.engine import service as service_file
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.schema.answers import Attributes
from simshard.shards.attributes import describe_attributes
from simshard.shards.hidden import Hidden
from simshard.shards.store import Snapshot
from tests.support.api_client import client_of, problem
from tests.support.attribute_oracle import described
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of
from tests.support.tables import POOL


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
