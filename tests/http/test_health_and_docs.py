"""Health, the API key that guards all but health, and the documentation."""

from tests.support.api_client import client_of, problem
from tests.support.api_store import ITEMS


async def test_operations(client, service, store):
    assert (await client.get("/livez")).json() == {"status": "ok"}
    assert (await client.get("/readyz")).json()["snapshot"] == store.resolve()
    assert (await client.get("/healthz")).json()["status"] == "ok"
    body = (await client.get("/v1/snapshots")).json()
    assert (body["active"], body["serving"]) == (store.resolve(), service.table.name)
    assert body["snapshots"][0]["items"] == ITEMS
    service.close(service.table)
    assert (await client.get("/livez")).status_code == 200
    not_ready = await client.get("/readyz")
    assert not_ready.status_code == 503
    assert not_ready.headers["retry-after"] == "1"
    assert "damaged" in not_ready.text
    assert (await client.get("/healthz")).status_code == 503
    await problem(client, 503, url="/v1/similar?id=id 1")


async def test_the_api_key(service, store):
    async with client_of(service, store, "s3cret") as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "s3cre"}, {"x-api-key": ""}):
            answer = await client.get("/v1/items/id 1", headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
        for headers in ({"authorization": "Bearer s3cret"}, {"x-api-key": "s3cret"}):
            assert (await client.get("/v1/items/id 1", headers=headers)).status_code == 200
        assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/readyz")).status_code == 200
        assert (await client.get("/openapi.json")).status_code == 401


async def test_openapi_and_docs_load_nothing_from_other_hosts(client):
    document = (await client.get("/openapi.json")).json()
    for path in (
        "/v1/items/{id}",
        "/v1/items/{id}/similar",
        "/v1/similar",
        "/v1/recommend",
        "/v1/score",
        "/v1/snapshots",
    ):
        (operation,) = document["paths"][path].values()
        assert "$ref" in operation["responses"]["200"]["content"]["application/json"]["schema"]
        assert "application/problem+json" in operation["responses"]["422"]["content"]
    page = (await client.get("/docs")).text
    assert "http://" not in page.replace("http://test", "")
    assert "https://" not in page
    for asset in ("/docs/swagger-ui-bundle.js", "/docs/swagger-ui.css"):
        assert asset in page
        assert (await client.get(asset)).status_code == 200
    assert (await client.get("/docs/../pyproject.toml")).status_code == 404
    assert (await client.get("/docs/main.py")).status_code == 404
