"""The page: files that `make web` built into `serve/static`, and the headers that guard pages in a browser."""

from __future__ import annotations

import base64
import functools
import gzip
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from simshard.serve.engine.cache_keys import entity_tag
from simshard.serve.http.access import GuardedRoute
from simshard.serve.http.conditional import not_modified
from simshard.serve.http.responses import refusal

STATIC = Path(__file__).parents[1] / "static"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".jpg": "image/jpeg",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webp": "image/webp",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
}
_ASSET = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")  # no way up
_UNWANTED = re.compile(r"\s*q\s*=\s*0(\.0*)?\s*", re.IGNORECASE)
_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_POLICY = "Content-Security-Policy"
_GUARDS = {
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class File:
    """A file of the page, and as gzip where that is shorter."""

    body: bytes
    packed: bytes | None
    kind: str
    tag: str


def guarded(scripts: Sequence[str] = (), styles: Sequence[str] = (), images: Sequence[str] = ()) -> dict[str, str]:
    """Headers of a page that loads what it needs from this server, and from these sources beside it."""
    policy = {
        "default-src": ("'none'",),
        "script-src": ("'self'", *scripts),
        "style-src": ("'self'", *styles),
        "img-src": ("'self'", "data:", *images),
        "connect-src": ("'self'",),
        "font-src": ("'self'",),
        "base-uri": ("'none'",),
        "form-action": ("'none'",),
        "frame-ancestors": ("'none'",),
    }
    text = "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items())
    return {_POLICY: text, **_GUARDS}


def script_hashes(html: bytes) -> list[str]:
    """The inline scripts of a page as a Content-Security-Policy names them."""
    digests = (hashlib.sha256(script).digest() for script in _SCRIPT.findall(html))
    return [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]


def accepts_gzip(accepted: str) -> bool:
    """Whether Accept-Encoding takes gzip."""
    wanted = {}
    for part in accepted.split(","):
        name, _, weight = part.partition(";")
        wanted[name.strip().lower()] = not _UNWANTED.fullmatch(weight)
    return wanted.get("gzip", wanted.get("*", False))


@functools.cache
def read_page(folder: Path) -> Mapping[str, File]:
    """The files of a built page by their paths: index.html, favicon.svg, assets/*. Raises FileNotFoundError.

    That there is none is not remembered, so that one can be built while the server runs.
    """
    paths = [folder / "index.html", *folder.glob("favicon.svg"), *folder.glob("assets/*")]
    return {path.relative_to(folder).as_posix(): _read(path) for path in paths if not path.is_dir()}


def _read(path: Path) -> File:
    body = path.read_bytes()
    packed = gzip.compress(body, 9, mtime=0)
    kind = _TYPES.get(path.suffix, "application/octet-stream")
    tag = hashlib.blake2b(body, digest_size=12).hexdigest()
    return File(body, packed if len(packed) < len(body) else None, kind, tag)


def page_routes(origins: Callable[[], Sequence[str]]) -> list[GuardedRoute]:
    """The page at / and its assets; `origins` are the hosts whose pictures it may show just now."""

    def answer(request: Request, path: str, cache_control: str, images: Sequence[str] = ()) -> Response:
        try:
            file = read_page(STATIC).get(path)
        except FileNotFoundError:
            return refusal(404, "Not Found", "the page is not built here; run `make web`, or see /docs")
        if file is None:
            raise HTTPException(404, "Not Found")
        accepted = accepts_gzip(",".join(request.headers.getlist("accept-encoding")))
        packed = file.packed if accepted else None
        body = file.body if packed is None else packed
        headers = guarded(images=images)
        # Of the policy too: browsers keep the one they have where the answer is 304.
        headers["ETag"] = entity_tag(f"{file.tag} {packed is None} {headers[_POLICY]}".encode())
        headers |= {"Cache-Control": cache_control, "Vary": "Accept-Encoding"}
        known = not_modified(request, headers)
        if known is not None:
            return known
        headers["Content-Length"] = str(len(body))
        if packed is not None:
            headers["Content-Encoding"] = "gzip"
        return Response(None if request.method == "HEAD" else body, 200, headers, file.kind)

    # Plain functions, so that they run in threads: the first request reads and packs the files.
    def index(request: Request) -> Response:
        return answer(request, "index.html", "no-cache", origins())

    def favicon(request: Request) -> Response:
        return answer(request, "favicon.svg", "no-cache")

    def asset(request: Request) -> Response:
        return answer(request, f"assets/{request.path_params['name']}", "public, max-age=31536000, immutable")

    # Open to everybody: no data but the names of the hosts that pictures come from, in the page's policy.
    return [
        GuardedRoute("/", index, "open"),
        GuardedRoute("/favicon.svg", favicon, "open"),
        GuardedRoute("/assets/{name}", asset, "open", names=_ASSET),
    ]
