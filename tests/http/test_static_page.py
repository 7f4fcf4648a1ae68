"""The page's files over HTTP, their headers, and what the guard lets through for them."""

import base64
import gzip
import hashlib
import re

import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http import static_page
from simshard.serve.http.static_page import accepts_gzip
from simshard.shards.store import Snapshot
from tests.support.api_client import client_of
from tests.support.builder import random_matrix, write_store
from tests.support.tables import POOL

SCRIPT = b"console.log('a page');\n" * 200
FILES = {
    "index.html": b"<!doctype html><script type=module src=./assets/index-Ab_1.js></script>" * 9,
    "favicon.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "assets/index-Ab_1.js": SCRIPT,
    "assets/index-C-2.css": b"body { margin: 0 }" * 50,
    "assets/font.woff2": bytes(range(256)),
    "secret.txt": b"not a file of the page",
}
ITEMS = 6


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    posters = pa.array([f"https://host{row % 2}.example/{row}" for row in range(ITEMS)])
    return write_store(tmp_path_factory.mktemp("static"), random_matrix(1, ITEMS), attributes={"poster": posters})


@pytest.fixture
def built(tmp_path, monkeypatch):
    """The page as `make web` leaves it."""
    for name, content in FILES.items():
        path = tmp_path / "static" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    monkeypatch.setattr(static_page, "STATIC", tmp_path / "static")
    return tmp_path / "static"


def service_of(store, image=None):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL, image))
    return service


def client_at(store, root_path="", api_key=None, image=None):
    client = client_of(service_of(store, image), store, api_key)
    client._transport.root_path = root_path
    return client


@pytest.fixture
async def client(built, store):
    async with client_at(store) as client:
        yield client


async def test_every_file_of_the_page_and_no_other(client):
    kinds = {"html": "text/html", "svg": "image/svg+xml", "js": "text/javascript", "css": "text/css"}
    for name, content in FILES.items():
        answer = await client.get("/" if name == "index.html" else f"/{name}")
        if name == "secret.txt":
            assert answer.status_code == 404
            continue
        assert (answer.status_code, answer.content) == (200, content)
        kind = kinds.get(name.rpartition(".")[2], "font/woff2")
        assert answer.headers["content-type"].partition(";")[0] == kind
        forever = name.startswith("assets/")
        expected = "public, max-age=31536000, immutable" if forever else "no-cache"
        assert answer.headers["cache-control"] == expected
    for path in (
        "/index.html",
        "/assets/none.js",
        "/assets/",
        "/assets",
        "/assets/index.html",
        "/assets/..%2findex.html",
    ):
        answer = await client.get(path)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await client.post("/")).status_code == 405
    assert not {"/", "/favicon.svg", "/assets/{name}"} & set((await client.get("/openapi.json")).json()["paths"])


@pytest.mark.parametrize("path", ["/", "/favicon.svg", "/assets/index-Ab_1.js", "/assets/font.woff2"])
async def test_gzip_etag_and_head(client, path):
    plain = await client.get(path, headers={"accept-encoding": "identity"})
    packed = await client.get(path, headers={"accept-encoding": "br, gzip"})
    assert plain.content == packed.content
    assert "content-encoding" not in plain.headers
    assert plain.headers["vary"] == packed.headers["vary"] == "Accept-Encoding"
    shrinks = path not in ("/favicon.svg", "/assets/font.woff2")
    assert (packed.headers.get("content-encoding") == "gzip") == shrinks
    assert (plain.headers["etag"] != packed.headers["etag"]) == shrinks
    if shrinks:
        assert int(packed.headers["content-length"]) == len(gzip.compress(plain.content, 9)) < len(plain.content)
    for encoding, answer in (("identity", plain), ("gzip", packed)):
        headers = {"accept-encoding": encoding, "if-none-match": answer.headers["etag"]}
        assert not answer.headers["etag"].startswith("W/")
        same = await client.get(path, headers=headers)
        assert (same.status_code, same.content) == (304, b"")
        for name in ("etag", "cache-control", "vary", "content-security-policy"):
            assert same.headers[name] == answer.headers[name]
        async with client.stream("HEAD", path, headers={"accept-encoding": encoding}) as head:
            raw = b"".join([part async for part in head.aiter_raw()])
        assert (head.status_code, raw) == (200, b"")
        assert head.headers == answer.headers


@pytest.mark.parametrize(
    ("accepted", "takes"),
    [
        ("", False),
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("*", True),
        ("*;q=0", False),
        ("gzip;q=0, *", False),
        ("identity", False),
        ("xgzip", False),
    ],
)
def test_accept_encoding(accepted, takes):
    assert accepts_gzip(accepted) is takes


async def test_a_page_that_was_not_built_is_told_and_found_once_it_is(store, tmp_path, monkeypatch):
    monkeypatch.setattr(static_page, "STATIC", tmp_path / "static")
    async with client_at(store) as client:
        for path in ("/", "/favicon.svg", "/assets/x.js"):
            answer = await client.get(path)
            assert answer.status_code == 404
            assert answer.headers["content-type"] == "application/problem+json"
            assert "make web" in answer.json()["detail"]
        (tmp_path / "static").mkdir()
        (tmp_path / "static" / "index.html").write_bytes(b"<p>")
        assert (await client.get("/")).content == b"<p>"
        assert (await client.get("/favicon.svg")).status_code == 404


POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:{}; connect-src 'self'; "
    "font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
GUARDS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


async def test_headers_that_guard_the_page(client, store):
    for path in ("/", "/favicon.svg", "/assets/index-Ab_1.js", "/docs", "/docs/swagger-ui.css"):
        headers = (await client.get(path)).headers
        assert {name: headers.get_list(name) for name in GUARDS} == {name: [value] for name, value in GUARDS.items()}
        if path != "/docs":
            assert headers["content-security-policy"] == POLICY.format("")
    for path in ("/v1/items/1", "/v1/items/none", "/livez", "/openapi.json", "/nowhere"):
        headers = (await client.get(path)).headers
        assert headers.get_list("x-content-type-options") == ["nosniff"]
    async with client_at(store, image="poster") as pictures:
        answer = await pictures.get("/")
        origins = " https://host0.example https://host1.example"
        assert answer.headers["content-security-policy"] == POLICY.format(origins)
        for path in ("/favicon.svg", "/assets/index-Ab_1.js", "/docs"):
            assert "host0" not in str((await pictures.get(path)).headers)
        # a browser would keep the policy that it has, were this 304
        tag = (await client.get("/")).headers["etag"]
        assert (await pictures.get("/", headers={"if-none-match": tag})).status_code == 200


async def test_the_docs_allow_their_own_inline_script_alone(client):
    answer = await client.get("/docs")
    (script,) = re.findall(r"<script>(.*?)</script>", answer.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert f"script-src 'self' 'sha256-{digest}';" in policy
    assert "style-src 'self' 'unsafe-inline'; img-src 'self' data:;" in policy
    assert re.findall(r"\son\w+=|javascript:", answer.text) == []


async def test_the_page_below_a_route_prefix(built, store):
    async with client_at(store, "/shop") as client:
        for path in ("/shop/", "/shop/favicon.svg", "/shop/assets/index-Ab_1.js"):
            assert (await client.get(path)).status_code == 200, path
        assert (await client.get("/shop/")).content == FILES["index.html"]
        for method in ("GET", "HEAD"):
            answer = await client.request(method, "/shop?q=a%20b&x=1")
            assert (answer.status_code, answer.headers["location"]) == (307, "./shop/?q=a%20b&x=1")
        assert str((await client.get("/shop", follow_redirects=True)).url) == "http://test/shop/"
        assert (await client.get("/shop/v1/items/1")).status_code == 200
    async with client_at(store, "/a b/c:d", api_key="k3y") as client:
        answer = await client.get("/a%20b/c:d", follow_redirects=True)
        assert (str(answer.url), answer.content) == ("http://test/a%20b/c:d/", FILES["index.html"])
        assert (await client.post("/a%20b/c:d")).status_code == 401
    for root in ("", "/"):
        async with client_at(store, root) as client:
            answer = await client.get("/")
            assert (answer.status_code, answer.content) == (200, FILES["index.html"])
            assert (await client.get("/v1/items/1")).status_code == 200


async def raw(app, path, method="GET", root_path=""):
    """Status and headers of an answer to a path as it stands, which no client would send."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "root_path": root_path}
    scope |= {"headers": [], "query_string": b"x=\r\nSet-Cookie: a", "scheme": "http", "server": ("test", 80)}
    await app({**scope, "http_version": "1.1", "client": None}, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


TRICKS = [
    "/assets/../v1/items",
    "/assets/./v1/items",
    "/assets/..",
    "/assets/.hidden",
    "/assets/",
    "/assets",
    "/assets/x/../../v1/items",
    "/assets/%2e%2e/v1/items",
    "/assets/..%2fv1%2fitems",
    "/assets/x\n",
    "/assets/x\\..\\v1",
    "/assets/x\0",
    "/assets//v1/items",
    "//v1/items",
    "//",
    "/.",
    "/./v1/items",
    "/\n",
    "\n/",
    "/favicon.svg/",
    "/favicon.svg/../v1/items",
    "/favicon.svg\n",
    "/favicon.svg?",
    "/FAVICON.SVG",
    "/index.html",
    "/v1/items",
    "/v1/attributes",
    "/docs",
    "/healthz",
    "/livez/",
    "/livez\n",
]


@pytest.mark.parametrize("root", ["", "/shop"])
async def test_the_page_needs_no_key_and_opens_nothing_else(built, store, root):
    async with client_at(store, root, api_key="k3y") as client:
        guard = client._transport.app
        for path in ("/", "/favicon.svg", "/assets/index-Ab_1.js", "/livez", "/readyz"):
            assert (await raw(guard, root + path, root_path=root))[0] == 200
        for path in ("/", "/assets/index-Ab_1.js"):
            for method in ("POST", "PUT", "DELETE", "OPTIONS"):
                assert (await raw(guard, root + path, method, root))[0] == 401
        assert (await raw(guard, root + "/assets/none.js", root_path=root))[0] == 404
        for path in TRICKS:
            assert (await raw(guard, root + path, root_path=root))[0] == 401, path
        if root:
            assert (await raw(guard, f"{root}v1/items", root_path=root))[0] == 401
            status, headers = await raw(guard, root, root_path=root)
            assert (status, headers[b"location"]) == (307, b"./shop/?x=%0D%0ASet-Cookie:%20a")
