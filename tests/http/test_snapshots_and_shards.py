"""Answers while snapshots are switched, and while shards are late or away; when an answer may be kept."""

import asyncio
from dataclasses import replace

import pyarrow as pa

from simshard.serve.engine.table import local_table
from simshard.shards.errors import ShardUnavailable
from simshard.shards.hidden import Hidden
from simshard.shards.store import Snapshot
from tests.support import oracle
from tests.support.api_client import client_of, problem
from tests.support.api_store import IDS, MATRIX, printed
from tests.support.builder import write_store
from tests.support.tables import POOL


async def test_get_answers_304_to_who_has_the_answer(client, service, store):
    urls = ["/v1/items/id 3/similar?limit=3", "/v1/similar?id=id 3", "/v1/items/id 3", "/v1/items?q=title"]
    tags = set()
    for url in [*urls, "/v1/score?a=id 1&b=id 2", "/v1/snapshots"]:
        answer = await client.get(url)
        etag = answer.headers["etag"]
        assert answer.headers["cache-control"] == "no-cache"
        tags.add(etag)
        for given in (etag, f"W/{etag}", f'"x", {etag}'):
            again = await client.get(url, headers={"if-none-match": given})
            assert (again.status_code, again.content) == (304, b"")
            assert (again.headers["etag"], again.headers["cache-control"]) == (etag, "no-cache")
        assert (await client.get(url, headers={"if-none-match": '"other"'})).status_code == 200
    assert len(tags) == 6
    etag = (await client.get(urls[0])).headers["etag"]
    service.hide(Hidden(1, (("id 9", ""),)))
    hidden = await client.get(urls[0], headers={"if-none-match": etag})
    assert (hidden.status_code, hidden.headers["etag"] != etag) == (200, True)
    service.hide(Hidden(2))
    assert (await client.get(urls[0], headers={"if-none-match": etag})).status_code == 304
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    service.serve(local_table(Snapshot(store), POOL))
    assert (await client.get(urls[0], headers={"if-none-match": etag})).status_code == 200
    store.rollback()
    async with client_of(service, store, "k3y") as private:
        headers = {"x-api-key": "k3y"}
        assert (await private.get(urls[0], headers=headers)).headers["cache-control"] == "private, no-cache"


async def test_a_snapshot_that_another_replica_answers_from_already_is_waited_for(client, service, store):
    first = service.table
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    second = local_table(Snapshot(store), POOL)
    later = asyncio.get_running_loop().call_later(0.3, service.serve, second)
    answer = await client.get("/v1/items/id 3/similar", params={"snapshot": second.name})
    assert (answer.status_code, answer.json()["snapshot"]) == (200, second.name)
    assert later.cancelled() is False
    assert service.names == [second.name, first.name] and service.opened(first.name) is first
    store.rollback()


async def test_a_batch_is_of_one_snapshot(client, service, store):
    first = service.table
    write_store(store.root, MATRIX, ids=pa.array(IDS))
    second = local_table(Snapshot(store), POOL)
    asyncio.get_running_loop().call_soon(lambda: asyncio.get_running_loop().call_soon(service.serve, second))
    requests = [{"positive": [f"id {i % 20}", "id 25"], "limit": 1 + i % 40} for i in range(400)]
    body = (await client.post("/v1/recommend/batch", json={"requests": requests})).json()
    assert len({answer["snapshot"] for answer in body["responses"]}) == 1
    assert service.table is second
    service.serve(first)
    store.rollback()


async def test_a_partial_answer_has_no_etag(client, service):
    class Away:
        remote = False

        async def scores(self, *_):
            raise ShardUnavailable("away")

        def __init__(self, inner):
            self.search = inner.search

    service.serve(replace(service.table, transports=tuple(map(Away, service.table.transports))))
    answer = await client.get("/v1/items/id 3/similar?explain=true")
    assert answer.json()["partial"]
    assert "etag" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"


async def test_pages_stay_on_a_snapshot_while_it_is_open(client, service, store):
    first = service.table
    write_store(store.root, MATRIX[::-1, ::-1].copy(), ids=pa.array(IDS))
    service.serve(local_table(Snapshot(store), POOL))
    second = service.table
    assert service.names == [second.name, first.name]
    for name, matrix in ((first.name, MATRIX), (second.name, MATRIX[::-1, ::-1])):
        for offset in (0, 5):
            params = {"limit": 5, "offset": offset, "snapshot": name}
            body = (await client.get("/v1/items/id 3/similar", params=params)).json()
            assert body["snapshot"] == name
            assert printed(body["hits"]) == oracle.hits(matrix, [oracle.Seed(3)], limit=5, offset=offset)
    assert (await client.get("/v1/snapshots")).json()["open"] == [second.name, first.name]
    service.close(first)
    detail = await problem(client, 409, json={"positive": ["id 3"], "snapshot": first.name})
    assert first.name in detail
    assert second.name in detail
    await problem(client, 409, url=f"/v1/items/id 3/similar?snapshot={first.name}")
    store.rollback()


class Slow:
    remote = False

    def __init__(self, inner, delay=0.0, fails=False):
        self.inner, self.delay, self.fails = inner, delay, fails

    async def partial(self, query):
        await asyncio.sleep(self.delay)
        if self.fails:
            raise ShardUnavailable("away")
        return await self.inner.partial(query)

    search = scores = partial


async def test_a_late_answer_is_504_and_an_absent_shard_makes_it_partial_and_not_kept(client, service):
    whole = service.table
    first, second = whole.transports
    body = {"positive": ["id 1", "id 25"], "limit": 3}
    service.serve(replace(whole, transports=(first, Slow(second, 0.2))))
    await problem(client, 504, json={**body, "timeout_ms": 20})
    await asyncio.sleep(0.25)
    assert (await client.post("/v1/recommend", json=body)).headers["x-cache"] == "memory"  # it was finished for others

    body["limit"] = 4
    service.serve(replace(whole, transports=(first, Slow(second, fails=True))))
    for _ in range(2):
        answer = await client.post("/v1/recommend", json=body)
        assert answer.headers["x-cache"] == "bypass"
        assert (answer.json()["partial"], answer.json()["failed_shards"]) == (True, [1])
    service.serve(replace(whole, transports=(Slow(first, fails=True), Slow(second, fails=True))))
    await problem(client, 503, json=body)
    service.serve(whole)
    answer = (await client.post("/v1/recommend", json=body)).json()
    assert not answer["partial"]
    assert printed(answer["hits"]) == oracle.hits(MATRIX, [oracle.Seed(1), oracle.Seed(25)], limit=4)
