"""Ray Serve wiring: the ingress replica, and the builder that `simshard serve` and Serve config files use."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import ray
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig

from simshard.serve.cluster.health_report import describe_health
from simshard.serve.cluster.rounds import State
from simshard.serve.cluster.slots import NAMESPACE, slot_name
from simshard.serve.cluster.supervisor import get_supervisor
from simshard.serve.cluster.table_opener import TableOpener
from simshard.serve.engine.cache import Cache, Lru, RedisCache
from simshard.serve.engine.service import Service
from simshard.serve.http.api import build_api
from simshard.serve.http.in_process import RawResponse, call
from simshard.serve.schema.keys import ADMIN_KEY_VARIABLE, API_KEY_VARIABLE, HOST_VARIABLE, is_loopback
from simshard.serve.settings import InvalidSetting, Settings, check_bind, settings_from
from simshard.shards.hidden import read_hidden
from simshard.shards.store import Store

Log = logging.getLogger("simshard.app")

_FOLLOW = 0.4
_CALL_TIMEOUT = 5.0
_FIRST_TABLE = 20.0  # how long a new replica holds back, so that its first requests find a snapshot


class Ingress:
    """One replica: follows the supervisor and answers HTTP."""

    async def __init__(self, settings: Settings) -> None:  # type: ignore[misc]  # Ray awaits it
        _listen_where_ray_does()
        api_key = settings.api_key or os.environ.get(API_KEY_VARIABLE)
        if not api_key:
            await asyncio.to_thread(_check_private)
        self._settings = settings
        self._store = Store(settings.location.folder)
        pool = ThreadPoolExecutor(settings.threads, thread_name_prefix="rows")
        redis = RedisCache(settings.redis, settings.redis_ttl) if settings.redis else None
        self._cache = Cache(Lru(settings.cache_bytes), redis)
        self._filters = settings.named_filters()
        self._service = Service(
            self._cache,
            pool,
            frozenset(settings.redis_classes),
            self._filters,
            settings.default_filter,
        )
        self._tables = TableOpener(
            self._service,
            self._store,
            pool,
            ray.get_runtime_context().get_node_id(),
            self._slot_actor,
            maps=settings.transport == "auto",
            shard_timeout=settings.shard_timeout,
            image=settings.image,
        )
        self._state = State(settings.store)
        self._problem: str | None = "the supervisor has not answered yet"
        self._hidden_problem: str | None = None
        self._first = asyncio.Event()
        self._http = build_api(
            self._service,
            settings.location.copies() or self._store,
            api_key,
            self._health,
            settings.admin_key or os.environ.get(ADMIN_KEY_VARIABLE),
        )
        loop = asyncio.get_running_loop()
        self._followers = [loop.create_task(self._follow()), loop.create_task(self._follow_hidden())]
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), _FIRST_TABLE)
        # What is there by now, mostly modules, stays: looking at it again took a quarter of the time of each request.
        gc.collect()
        gc.freeze()

    def __serve_build_asgi_app__(self) -> Any:
        return self._http

    async def request(self, method: str, target: str, headers: dict[str, str], body: bytes) -> RawResponse:
        """Status, headers and body of the answer to an HTTP request that came over a Serve handle.

        Whoever has a handle is inside the cluster, which Ray's token guards: all is granted, no key is asked for.
        """
        return await call(self._http, method, target, headers, body, access="admin")

    async def _follow(self) -> None:
        """Follow the supervisor's state for the life of the replica."""
        supervisor: Any = None
        while True:
            try:
                if supervisor is None:
                    supervisor = await asyncio.to_thread(
                        get_supervisor,
                        self._settings.name,
                        self._settings.location,
                        self._settings.keep_open,
                        self._filters,
                    )
                state: State = await asyncio.wait_for(supervisor.state.remote(), _CALL_TIMEOUT)
                if state.store != self._settings.store:
                    raise InvalidSetting(f"name {self._settings.name}: already serves the store {state.store}")
                if state.version != self._state.version or state.snapshot != self._state.snapshot:
                    await self._adopt(state)
                self._state = state
                self._problem = state.problem or self._hidden_problem
            except Exception as error:  # a replica must outlive its supervisor's absence
                Log.warning("following the supervisor: %s: %s", type(error).__name__, error)
                self._problem = f"{type(error).__name__}: {error}"
                supervisor = None
            await asyncio.sleep(_FOLLOW if self._service.table else 0.05)

    async def _follow_hidden(self) -> None:
        """Follow the list of hidden items, whatever becomes of the supervisor."""
        while True:
            await asyncio.sleep(_FOLLOW)
            try:
                known = self._service.hidden
                hidden = await asyncio.to_thread(read_hidden, self._store, known)
                if self._service.hidden is known:  # else a request changed it meanwhile
                    self._service.hide(hidden)
                self._hidden_problem = None
            except Exception as error:  # what was hidden stays hidden
                self._hidden_problem = self._problem = str(error)

    async def _adopt(self, state: State) -> None:
        if state.snapshot is not None:
            replaced = self._service.serve(await asyncio.to_thread(self._tables.open, state))
            if replaced is not None:
                asyncio.get_running_loop().call_later(self._settings.keep_open, self._service.close, replaced)
            self._first.set()

    def _slot_actor(self, shard: int) -> Any:
        return ray.get_actor(slot_name(self._settings.name, shard), namespace=NAMESPACE)

    def _health(self) -> dict[str, Any]:
        return describe_health(self._service, self._state, self._problem)


def _listen_where_ray_does() -> None:
    """Keep a replica's gRPC server, which Ray opens to every network, on loopback where all of Ray is.

    The server starts once the deployment's class is there.
    """
    from ray.serve._private import replica

    if is_loopback(ray.util.get_node_ip_address()) and hasattr(replica, "add_port_to_grpc_server"):
        add_port = replica.add_port_to_grpc_server
        replica.add_port_to_grpc_server = lambda server, address: add_port(server, address.replace("[::]", "127.0.0.1"))


def _check_private() -> None:
    """Raise InvalidSetting where Serve lets other machines ask this replica, which has no API key."""
    from ray.serve.context import _get_global_client  # there is no public way to ask how Serve listens

    for host in (_get_global_client().http_config.host, os.environ.get(HOST_VARIABLE)):
        if host is not None:
            check_bind(host, None)


def replicas_of_a_node(replicas: int, nodes: int) -> int | None:
    """At most so many replicas run on one node, so that they are spread; None for any number."""
    return -(-replicas // nodes) if nodes > 1 else None


def application(settings: Settings, nodes: int = 1) -> serve.Application:
    """The Serve application for one store; on several nodes its replicas are spread evenly, and so its front ends."""
    deployment = serve.deployment(
        serve.ingress()(Ingress),
        name="ingress",
        num_replicas=settings.replicas,
        max_replicas_per_node=replicas_of_a_node(settings.replicas, nodes),
        ray_actor_options={"num_cpus": 0},
        max_ongoing_requests=256,
        max_queued_requests=1024,
        graceful_shutdown_wait_loop_s=0.1,
        graceful_shutdown_timeout_s=5,
        max_surge_percent=100,
        logging_config=LoggingConfig(log_level="WARNING", enable_access_log=False),
    )
    return deployment.bind(settings)


def build(args: dict[str, Any]) -> serve.Application:
    """The application for a Serve config file; `args` are the fields of Settings. Raises InvalidSetting."""
    return application(settings_from(args))


def http_options(host: str, port: int) -> HTTPOptions:
    """How Serve listens: one address, requests bounded in time."""
    return HTTPOptions(host=host, port=port, request_timeout_s=60)
