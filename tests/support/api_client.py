"""The HTTP face without Ray: the ASGI application over a store, asked through httpx."""

import json

import httpx

from simshard.serve.http.api import build_api


def client_of(service, store, api_key=None, admin_key=None):
    """A client of the application over this service; its health is made up of whether there is a snapshot."""

    def health():
        name = service.table.name if service.table else None
        return {
            "status": "ok" if name else "unavailable",
            "version": "0",
            "snapshot": name,
            "items": None,
            "pairs": None,
            "shards": [],
            "cache": {},
            "hidden": 0,
            "problem": None if name else "the shard is damaged",
        }

    return asking(build_api(service, store, api_key, health, admin_key))


def asking(app):
    """A client of any ASGI application, which gets an answer of 500 where that raises."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def problem(client, status, field=None, to="/v1/recommend", **request):
    """Ask, check that the answer is a problem with this status and field, and return its detail."""
    method, url = ("POST", to) if "json" in request or "content" in request else ("GET", request.pop("url"))
    if "json" in request:
        request["content"] = json.dumps(request.pop("json"))  # with escapes, which may be no text
    answer = await client.request(method, url, headers={"content-type": "application/json"}, **request)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body.get("field") == field
    assert "Traceback" not in answer.text
    return body["detail"]
