"""The Python client without a server: the same generators, driven over the ASGI application."""

import asyncio
import inspect
import json
import subprocess
import sys

import httpx
import numpy as np
import pyarrow as pa
import pytest

from simshard.serve.client import AsyncClient, Client, flows
from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.api import build_api
from simshard.serve.schema.answers import Answer
from simshard.serve.schema.problems import Problem
from simshard.shards.errors import (
    DeadlineExceeded,
    InvalidFilter,
    InvalidQuery,
    NotReady,
    ServiceUnreachable,
    ShardUnavailable,
    SimshardError,
    SnapshotGone,
    UnknownItem,
)
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of
from tests.support.tables import POOL

COUNT = 40
MATRIX = random_matrix(3, COUNT)
METHODS = {name for name, each in vars(flows).items() if inspect.isgeneratorfunction(each)}


class Blocking(httpx.BaseTransport):
    """The ASGI application for a client that blocks."""

    def __init__(self, app):
        self.transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.requests = []

    def handle_request(self, request):
        self.requests.append(request)

        async def ask():
            answer = await self.transport.handle_async_request(request)
            return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def app(tmp_path_factory):
    store = write_store(tmp_path_factory.mktemp("client"), MATRIX, attributes=columns_of(items_of(COUNT)))
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    return build_api(service, store, None, dict, "adm1n")


@pytest.fixture
def client(app):
    with Client("http://test", transport=Blocking(app), api_key="adm1n") as client:
        yield client


def printed(answer):
    return [(hit.id, np.float32(hit.score)) for hit in answer.hits]


def test_every_call_is_a_method_of_both(client):
    for name in METHODS:
        assert inspect.iscoroutinefunction(getattr(AsyncClient, name))
        assert getattr(Client, name).__doc__ == getattr(AsyncClient, name).__doc__ == getattr(flows, name).__doc__
    assert len(METHODS) == 12


def test_queries(client):
    assert printed(client.similar(3, limit=4, offset=1)) == oracle.hits(MATRIX, [oracle.Seed(3)], limit=4, offset=1)
    seeds = [oracle.Seed(3, 2.0), oracle.Seed(5), oracle.Seed(7, 1.0, True)]
    answer = client.recommend([{"id": 3, "weight": 2.0}, 5], negative=[7], limit=6, explain=True)
    assert isinstance(answer, Answer)
    assert printed(answer) == oracle.hits(MATRIX, seeds, limit=6)
    assert {line.id for line in answer.hits[0].explain} <= {3, 5, 7}
    ranked = client.rank([3], [9, 10, 99], with_payload=False)
    assert ranked.missing_ids == [99]
    assert printed(ranked) == oracle.hits(MATRIX, [oracle.Seed(3)], exclude=set(range(COUNT)) - {9, 10})
    assert ranked.hits[0].payload is None
    first, second = client.recommend_batch([{"positive": [3]}, {"positive": ["none"]}])
    assert printed(first) == oracle.hits(MATRIX, [oracle.Seed(3)])
    assert isinstance(second, Problem)
    assert second.status == 404
    score = client.score(3, 4)
    assert (score is None) == np.isnan(MATRIX[3, 4])
    assert client.item(3).title == "Title 3"
    assert client.items("title 1").total == 11
    assert client.snapshots().serving == client.item(3).snapshot
    year = {"must": [{"key": "year", "range": {"gte": 1993}}]}
    for options in (
        {"filter": year, "group_by": "type", "diversity": 0.5, "limit": 3},
        {"boost": [{"filter": year, "factor": 2.0}], "exclude_ids": (4, 5), "score_threshold": 0.2},
        {"fallback": {"order_by": "year"}, "snapshot": client.snapshots().serving, "explain": True, "timeout_ms": 900},
    ):
        assert client.similar(3, **options) == client.recommend([3], **options)


def test_hide_and_unhide(client):
    assert client.hide(9).hidden
    assert client.item(9).hidden
    assert not client.unhide(9).hidden


@pytest.mark.parametrize(
    "ids", [[3, 99, 5, 3], np.array([3, 99, 5, 3]), pa.array([3, 99, 5, 3]), pa.chunked_array([[3, 99], [5, 3]])]
)
def test_many_at_once(client, ids):
    table = client.similar_many(ids, limit=4)
    expected = [(id_, *hit) for id_ in (3, 5, 3) for hit in oracle.hits(MATRIX, [oracle.Seed(id_)], limit=4)]
    rows = table.to_pylist()
    assert [(row["id"], row["neighbor"], np.float32(row["score"])) for row in rows] == expected
    assert table.schema.field("rank").type == pa.int32()
    assert json.loads(table.schema.metadata[b"missing_ids"]) == [99]
    assert table.schema.metadata[b"snapshot"].decode() == client.snapshots().serving


def test_many_at_once_go_in_parts_of_one_snapshot(client, monkeypatch):
    requests = client._http._transport.requests
    monkeypatch.setattr(flows, "MAX_BULK", 35)
    table = client.similar_many(list(range(COUNT)), limit=5)
    sent = [json.loads(request.content) for request in requests]
    assert [len(body["ids"]) for body in sent] == [7, 7, 7, 7, 7, 5]
    assert [body["snapshot"] for body in sent] == [None] + [client.snapshots().serving] * 5
    monkeypatch.undo()
    assert table == client.similar_many(list(range(COUNT)), limit=5)
    del requests[:]
    monkeypatch.setattr(flows, "_BODY", 150)
    assert table == client.similar_many(range(COUNT), limit=5)
    assert len(requests) == 2
    assert all(len(request.content) <= 150 for request in requests)
    empty = client.similar_many([])
    assert (empty.num_rows, empty.schema.names) == (0, table.schema.names)


async def test_the_same_for_asyncio(app):
    async with AsyncClient("http://test", transport=httpx.ASGITransport(app), api_key="adm1n") as client:
        answers = await asyncio.gather(*(client.similar(id_, limit=3) for id_ in range(5)))
        for id_, answer in enumerate(answers):
            assert printed(answer) == oracle.hits(MATRIX, [oracle.Seed(id_)], limit=3)
        table = await client.similar_many([1, 2])
        assert set(table["id"].to_pylist()) == {1, 2}
        with pytest.raises(UnknownItem):
            await client.similar("none")


def test_errors_are_those_that_the_service_raised(client):
    with pytest.raises(UnknownItem, match="none"):
        client.similar("none")
    with pytest.raises(InvalidQuery, match="limit: ") as caught:
        client.recommend([1], limit=0)
    assert caught.value.field == "limit"
    with pytest.raises(InvalidFilter, match="no attribute 'genre'") as caught:
        client.similar(1, filter={"must": [{"key": "genre", "is_null": True}]})
    assert caught.value.field == "filter.must[0].key"
    assert caught.value.attributes["year"] == "int64"
    with pytest.raises(SnapshotGone):
        client.similar(1, snapshot="20200101T000000Z-000000")
    with pytest.raises(InvalidQuery, match="ids"):
        client.similar_many([1, None])
    with pytest.raises(InvalidQuery, match="limit"):
        client.similar_many([1], limit=0)
    with pytest.raises(ServiceUnreachable, match="no answer") as caught:
        Client("http://127.0.0.1:9").similar(1)
    assert caught.value.retryable


@pytest.mark.parametrize(
    ("status", "title", "kind"),
    [
        (503, "Not ready", NotReady),
        (503, "Shard unavailable", ShardUnavailable),
        (504, "Deadline exceeded", DeadlineExceeded),
        (401, "Unauthorized", SimshardError),
        (500, "Internal error", SimshardError),
    ],
)
def test_other_errors(status, title, kind):
    body = {"title": title, "status": status, "detail": "why"}
    transport = httpx.MockTransport(lambda _: httpx.Response(status, json=body))
    with pytest.raises(SimshardError, match="why") as caught:
        Client("http://test", transport=transport).similar(1)
    assert type(caught.value) is kind
    page = httpx.MockTransport(lambda _: httpx.Response(502, text="<html>bad gateway</html>"))
    with pytest.raises(SimshardError, match="502: <html>"):
        Client("http://test", transport=page).similar(1)


@pytest.mark.parametrize(
    ("url", "variables", "through"),
    [
        ("http://service.test:8000", {}, True),
        ("http://service.test:8000", {"NO_PROXY": "service.test"}, False),
        ("http://127.0.0.1:8000", {}, False),
        ("http://localhost:8000", {}, False),
        ("http://[::1]:8000", {}, False),
    ],
)
def test_which_hosts_are_asked_through_a_proxy(monkeypatch, url, variables, through):
    """A proxy of the environment is for other machines, and for those that NO_PROXY does not name."""
    for name in ("NO_PROXY", "no_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HTTP_PROXY": "http://proxy.test:3128", **variables}.items():
        monkeypatch.setenv(name, value)
    pools = []

    def refuse(transport, request):
        pools.append(type(transport._pool).__name__)
        raise httpx.ConnectError("no network here", request=request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", refuse)
    with Client(url) as client, pytest.raises(ServiceUnreachable):
        client.similar(1)
    assert [("Proxy" in pool) for pool in pools] == [through]


def test_importing_it_brings_neither_ray_nor_the_server():
    program = "import sys, simshard.serve.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.split()
    heavy = ("ray", "fastapi", "starlette", "uvicorn", "redis", "numpy", "pyarrow", "orjson", "psutil", "typer")
    assert not set(heavy) & set(loaded)
    ours = {name for name in loaded if name.startswith("simshard.")}
    assert ours == {
        "simshard.serve",
        "simshard.serve.client",
        "simshard.serve.client.client",
        "simshard.serve.client.flows",
        "simshard.serve.schema",
        "simshard.serve.schema.answers",
        "simshard.serve.schema.filters",
        "simshard.serve.schema.keys",
        "simshard.serve.schema.problems",
        "simshard.serve.schema.requests",
        "simshard.serve.schema.values",
        "simshard.shards",
        "simshard.shards.errors",
        "simshard.shards.plain_values",
        "simshard.shards.strategy_names",
    }
