"""Python client of a running service, over HTTP or, from any Ray job, over a Serve handle.

    client = Client("http://127.0.0.1:8000")          client = Client.from_app("simshard")
    client.similar(42, limit=5).hits                  await AsyncClient("http://127.0.0.1:8000").similar(42, limit=5)

`Client` and `AsyncClient` drive the same generators (`simshard.serve.client.flows`). Errors are those of
`simshard.shards.errors`: UnknownItem, InvalidQuery, SnapshotGone, ShardUnavailable, ServiceUnreachable, ...
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Coroutine
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

import httpx

from simshard.serve.client import flows
from simshard.serve.client.flows import Flow, request_of
from simshard.serve.schema.keys import API_KEY_VARIABLE, bearer, is_loopback
from simshard.serve.schema.problems import Problem, error_of
from simshard.shards.errors import ServiceUnreachable, SimshardError

P = ParamSpec("P")
T = TypeVar("T")

TIMEOUT = 30.0


def _sync(make: Callable[P, Flow[T]]) -> Callable[Concatenate[Client, P], T]:
    def method(self: Client, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._run(make(*args, **kwargs))

    return functools.update_wrapper(method, make)


def _async(make: Callable[P, Flow[T]]) -> Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, T]]:
    async def method(self: AsyncClient, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._run(make(*args, **kwargs))

    return functools.update_wrapper(method, make)


class Client:
    """A server, asked; threads may share it. `timeout` in seconds; api_key: else what SIMSHARD_API_KEY says."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**_settings(url, api_key, timeout), transport=transport)

    @classmethod
    def from_app(cls, name: str = "simshard", *, address: str | None = None, timeout: float = TIMEOUT) -> Self:
        """A client of a Serve application of the Ray cluster that this process is in, or joins. Raises SimshardError.

        address: of the cluster to join, where the process is in none; None: where RAY_ADDRESS says, else that of the
        `simshard serve` of this user and machine that serves `name`, else the one that Ray finds on this machine.
        """
        from simshard.serve.client.handle_transport import HandleTransport

        return cls(f"http://{name}", timeout=timeout, transport=HandleTransport(name, address))

    def _run(self, flow: Flow[T]) -> T:
        call = next(flow)
        while True:
            try:
                response = self._http.request(**request_of(call))
            except httpx.HTTPError as error:
                raise _unreachable(self._http.base_url, error) from error
            try:
                call = flow.send(_checked(response))
            except StopIteration as done:
                result: T = done.value
                return result

    similar = _sync(flows.similar)
    recommend = _sync(flows.recommend)
    recommend_batch = _sync(flows.recommend_batch)
    rank = _sync(flows.rank)
    score = _sync(flows.score)
    items = _sync(flows.items)
    item = _sync(flows.item)
    hide = _sync(flows.hide)
    unhide = _sync(flows.unhide)
    snapshots = _sync(flows.snapshots)
    similar_many = _sync(flows.similar_many)
    raw = _sync(flows.raw)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio: every method is awaited."""

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        timeout: float = TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**_settings(url, api_key, timeout), transport=transport)

    @classmethod
    def from_app(cls, name: str = "simshard", *, address: str | None = None, timeout: float = TIMEOUT) -> Self:
        """As `Client.from_app`."""
        from simshard.serve.client.handle_transport import HandleTransport

        return cls(f"http://{name}", timeout=timeout, transport=HandleTransport(name, address))

    async def _run(self, flow: Flow[T]) -> T:
        call = next(flow)
        while True:
            try:
                response = await self._http.request(**request_of(call))
            except httpx.HTTPError as error:
                raise _unreachable(self._http.base_url, error) from error
            try:
                call = flow.send(_checked(response))
            except StopIteration as done:
                result: T = done.value
                return result

    similar = _async(flows.similar)
    recommend = _async(flows.recommend)
    recommend_batch = _async(flows.recommend_batch)
    rank = _async(flows.rank)
    score = _async(flows.score)
    items = _async(flows.items)
    item = _async(flows.item)
    hide = _async(flows.hide)
    unhide = _async(flows.unhide)
    snapshots = _async(flows.snapshots)
    similar_many = _async(flows.similar_many)
    raw = _async(flows.raw)

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: Any) -> None:
        await self.close()


def _settings(url: str, api_key: str | None, timeout: float) -> dict[str, Any]:
    key = api_key or os.environ.get(API_KEY_VARIABLE)
    base = httpx.URL(f"{url.rstrip('/')}/")
    # A proxy in the environment is for other machines: it would not find this one.
    return {"base_url": base, "headers": bearer(key), "timeout": timeout, "trust_env": not is_loopback(base.host)}


def _unreachable(url: httpx.URL, error: httpx.HTTPError) -> ServiceUnreachable:
    return ServiceUnreachable(f"{str(url).rstrip('/')}: no answer ({error or type(error).__name__})")


def _checked(response: httpx.Response) -> httpx.Response:
    """The response, if it is an answer. Raises the error that the problem in it tells of."""
    if response.is_success:
        return response
    try:
        problem = Problem.model_validate_json(response.content)
    except ValueError:
        raise SimshardError(f"{response.url}: {response.status_code}: {response.text[:200]}") from None
    raise error_of(problem)
