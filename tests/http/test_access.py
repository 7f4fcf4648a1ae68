"""Who may call what: every operation of the API, with each key, over the network and from inside the cluster."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from starlette.responses import Response

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http import api
from simshard.serve.http.access import Guard, GuardedRoute
from simshard.serve.http.in_process import call
from simshard.shards.store import Snapshot
from tests.support.api_client import asking
from tests.support.builder import random_matrix, write_store

KEYS = {"open": "", "key": "k3y", "admin": "adm1n"}
LEVELS = list(KEYS)
OPEN = {("GET", "/livez"), ("GET", "/readyz")}
ADMIN = {
    ("POST", "/v1/snapshots/rollback"),
    ("POST", "/v1/snapshots/{name}/activate"),
    ("PUT", "/v1/items/{id}/hidden"),
    ("DELETE", "/v1/items/{id}/hidden"),
}


@pytest.fixture
def build(tmp_path):
    """Makes the API of a small store."""
    store = write_store(tmp_path / "store", random_matrix(1, 6))
    with ThreadPoolExecutor(1) as pool:

        def build(api_key="k3y", admin_key="adm1n"):
            service = Service(Cache(Lru(0), None), pool)
            service.serve(local_table(Snapshot(store), pool))
            health = dict.fromkeys(("snapshot", "problem")) | {"status": "ok"}
            return api.build_api(service, store, api_key, lambda: health, admin_key)

        yield build


async def operations_of(app):
    async with asking(app) as client:
        document = (await client.get("/openapi.json", headers={"x-api-key": "adm1n"})).json()
    return {(method.upper(), path) for path, operations in document["paths"].items() for method in operations}


def level_of(operation):
    return "open" if operation in OPEN else "admin" if operation in ADMIN else "key"


def path_of(path):
    return path.replace("{id}", "0").replace("{name}", "20260101T000000Z-000000")


@pytest.mark.parametrize("brought", KEYS)
@pytest.mark.parametrize("needs_key", [True, False])
async def test_every_operation_asks_for_the_key_that_it_says(build, needs_key, brought):
    app = build("k3y" if needs_key else None)
    operations = await operations_of(app)
    assert operations > OPEN | ADMIN
    has = brought if needs_key or brought == "admin" else "key"
    async with asking(app) as client:
        for method, path in operations:
            answer = await client.request(method, path_of(path), headers={"x-api-key": KEYS[brought]})
            needs = level_of((method, path))
            if LEVELS.index(has) >= LEVELS.index(needs):
                assert answer.status_code not in (401, 403), (method, path)
            else:
                assert answer.status_code == (401 if has == "open" else 403), (method, path)


@pytest.mark.parametrize("granted", KEYS)
async def test_inside_the_cluster_the_same_layer_goes_by_what_is_granted(build, granted):
    app = build()
    for method, path in await operations_of(app):
        status, headers, _ = await call(app, method, path_of(path), {"x-api-key": "wrong"}, b"", access=granted)
        enough = LEVELS.index(granted) >= LEVELS.index(level_of((method, path)))
        assert (status in (401, 403)) != enough, (method, path)
        assert ("x-content-type-options", "nosniff") in headers


async def test_what_no_route_answers_asks_for_a_key_and_changes_for_the_admin_key(build):
    async with asking(build()) as client:
        for method, statuses in {
            "GET": (401, 404, 404),
            "POST": (401, 404, 404),
            "PUT": (401, 403, 404),
            "PATCH": (401, 403, 404),
            "DELETE": (401, 403, 404),
        }.items():
            for key, status in zip(KEYS.values(), statuses, strict=True):
                answer = await client.request(method, "/v1/nowhere", headers={"x-api-key": key})
                assert answer.status_code == status, (method, key)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_new_admin_call_is_closed_on_a_server_without_keys(method):
    async def clear(_):
        return Response("cleared")

    routes = [GuardedRoute("/v1/cache/clear", clear, "admin", [method])]
    for api_key in (None, "k3y"):
        guard = Guard(routes[0].app, routes, api_key, "adm1n")
        async with asking(guard) as client:
            for key, status in (("", 403 if api_key is None else 401), ("k3y", 403), ("adm1n", 200)):
                answer = await client.request(method, "/v1/cache/clear", headers={"x-api-key": key})
                assert answer.status_code == status


async def test_a_large_body_is_refused_over_the_network_and_taken_from_inside(build):
    app = build()
    body = b'{"positive": [0]}'.ljust((1 << 20) + 1)
    headers = {"content-type": "application/json", "x-api-key": "k3y"}
    async with asking(app) as client:
        assert (await client.post("/v1/recommend", content=body, headers=headers)).status_code == 413
    assert (await call(app, "POST", "/v1/recommend", headers, body, access="admin"))[0] == 200
