"""HTTP over a Serve handle: how any Ray job asks a replica without a network."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from simshard.shards.errors import SimshardError


class HandleTransport(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """Carries HTTP over a Serve handle to a replica of the application."""

    def __init__(self, name: str, address: str | None) -> None:
        """Find the application; a process that is in no Ray cluster joins the one at `address`, or that of `name` here.

        Raises SimshardError.
        """
        import ray
        from ray import serve

        if not ray.is_initialized():
            from simshard.shards.ray_cluster import join

            join(address, name)
            logging.getLogger("ray.serve").setLevel(logging.WARNING)
        try:
            self._handle = serve.get_app_handle(name)
        except Exception as error:
            raise SimshardError(f"no Serve application {name!r} in this Ray cluster ({error})") from error

    def _sent(self, request: httpx.Request, body: bytes) -> Any:
        target = request.url.raw_path.decode()
        return self._handle.request.remote(request.method, target, dict(request.headers), body)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and wait for the response. Raises httpx.TransportError."""
        with _translated(request):
            answer = self._sent(request, request.read()).result(timeout_s=_timeout(request))
        return httpx.Response(answer[0], headers=answer[1], content=bytes(answer[2]))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request and await the response. Raises httpx.TransportError."""
        with _translated(request):
            answer = await asyncio.wait_for(self._sent(request, await request.aread()), _timeout(request))
        return httpx.Response(answer[0], headers=answer[1], content=bytes(answer[2]))


def _timeout(request: httpx.Request) -> float | None:
    seconds: float | None = request.extensions.get("timeout", {}).get("read")
    return seconds


@contextmanager
def _translated(request: httpx.Request) -> Iterator[None]:
    """What Ray raises, as httpx's errors."""
    try:
        yield
    except TimeoutError as error:
        raise httpx.ReadTimeout("no answer in time", request=request) from error
    except Exception as error:
        raise httpx.NetworkError(f"{type(error).__name__}: {error}", request=request) from error
