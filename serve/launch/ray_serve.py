"""One store as one Serve application, on the Ray cluster that this process is in: deployed, awaited, ended again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

import httpx
import orjson

from simshard.serve.launch.haproxy import REPLICAS_ONLY
from simshard.serve.launch.ray_start import JoinedCluster, OwnCluster, serve_runs
from simshard.serve.schema.keys import bearer
from simshard.serve.settings import Settings
from simshard.shards.errors import SimshardError

_START_TIMEOUT = 600.0
_ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - how this machine asks what listens everywhere


def _in_background(call: Callable[[], object]) -> Future[object]:
    """The result of a call made in a thread that the end of the process does not wait for, as an executor's would."""
    future: Future[object] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


class App:
    """One store served as one Serve application; `url` once it answers. Raises SimshardError."""

    def __init__(
        self, settings: Settings, host: str, port: int, route_prefix: str, cluster: OwnCluster | JoinedCluster
    ) -> None:
        import ray
        from ray import serve
        from ray.serve import RunTarget

        from simshard.serve.app import application, http_options, replicas_of_a_node
        from simshard.serve.cluster.supervisor import get_supervisor

        self.name = settings.name
        self._cluster = cluster
        self._api_key = settings.api_key
        self.url = _url(host, port, route_prefix)
        self._asked_at = _url(_ANY.get(host, host), port, route_prefix)
        each = replicas_of_a_node(settings.replicas, cluster.nodes)
        self._proxies = 1 if each is None else -(-settings.replicas // each)  # at least, once every replica has a node
        self._serve_is_ours = True
        if isinstance(cluster, JoinedCluster):
            _check_name(settings)
            self._serve_is_ours = not _listens(cluster.serve_host, port)
        self.supervisor = get_supervisor(settings.name, settings.location, settings.keep_open, settings.named_filters())
        try:
            options = http_options(cluster.serve_host, port)
            starting = _in_background(lambda: serve.start(proxy_location="EveryNode", http_options=options))
            while not starting.done() and not serve_runs():
                time.sleep(0.02)
            if starting.done():
                starting.result()  # raises what that raised
            # Serve takes applications before its proxy answers: all of this while the shards are verified.
            target = RunTarget(application(settings, cluster.nodes), name=settings.name, route_prefix=route_prefix)
            serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
            with suppress(TimeoutError):  # after 60 s, which Serve has no setting for: the proxy is on its way
                starting.result()
            self._wait_open(ray, serve)
            self._wait_ready(ray, serve)
        except BaseException:
            self.close()
            raise

    def _wait_open(self, ray: Any, serve: Any) -> None:
        """Until the snapshot is verified and open. Raises SimshardError where it cannot be."""
        deadline = time.monotonic() + _START_TIMEOUT
        waits = None
        while time.monotonic() < deadline:
            state = ray.get(self.supervisor.state.remote(), timeout=60)
            if state.snapshot:
                return
            if state.problem:
                raise SimshardError(state.problem)
            waits = state.waits
            self._deployed(serve)
            time.sleep(0.05)
        raise SimshardError(f"the snapshot was not open after {_START_TIMEOUT:.0f} s: {waits}")

    def _deployed(self, serve: Any) -> str:
        """How far Serve is with the application. Raises SimshardError where it could not be deployed."""
        found = serve.status().applications.get(self.name)
        if found is not None and found.status == "DEPLOY_FAILED":
            raise SimshardError(f"the application did not start: {found.message}")
        return "NOT_STARTED" if found is None else str(found.status.value)

    def _wait_ready(self, ray: Any, serve: Any) -> None:
        """Until every replica runs and the address answers. Raises SimshardError where that takes too long."""
        deadline = time.monotonic() + _START_TIMEOUT
        last = ""
        while time.monotonic() < deadline:
            status = self._deployed(serve)
            try:
                proxies = {node: str(each.value) for node, each in serve.status().proxies.items()}
                self._answers_here = ray.get_runtime_context().get_node_id() in proxies
                answered = not self._answers_here or self._get("readyz", timeout=5).status_code == 200
                healthy = list(proxies.values()).count("HEALTHY")
                if answered and status == "RUNNING" and healthy >= self._proxies:
                    return
                last = f"front ends of nodes: {', '.join(proxies.values())}"
            except httpx.HTTPError as error:
                last = str(error)
            time.sleep(0.05)
        raise SimshardError(f"{self.url} was not ready after {_START_TIMEOUT:.0f} s: {status}; {last}")

    def health(self) -> dict[str, Any]:
        """The body of /healthz."""
        from ray import serve

        if self._answers_here:
            answer = self._get("healthz", headers=bearer(self._api_key), timeout=10).content
        else:  # this node has no replica, and so no front end
            handle = serve.get_app_handle(self.name)
            answer = handle.request.remote("GET", "/healthz", {}, b"").result(timeout_s=10)[2]
        body: dict[str, Any] = orjson.loads(answer)
        return body

    def _get(self, path: str, **options: Any) -> httpx.Response:
        """Ask past any proxy, which would not find this machine, over a connection that HAProxy need not wait for."""
        return httpx.get(f"{self._asked_at}/{path}", trust_env=False, **options)

    def close(self) -> None:
        """End the application and its actors, once the answers in flight are sent."""
        import ray
        from ray import serve

        self._cluster.finish_answers()
        with suppress(Exception):
            serve.delete(self.name)  # a replica finishes what it is at
        with suppress(Exception):
            ray.get(self.supervisor.end.remote(), timeout=5)
        with suppress(Exception):
            ray.kill(self.supervisor, no_restart=True)
        with suppress(Exception):
            if self._serve_is_ours and not serve.status().applications:
                serve.shutdown()


def _url(host: str, port: int, route_prefix: str) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}{route_prefix.rstrip('/')}"


def _check_name(settings: Settings) -> None:
    """Raise SimshardError where an application of this name serves another store in this cluster."""
    import ray

    from simshard.serve.cluster.slots import NAMESPACE
    from simshard.serve.cluster.supervisor import supervisor_name

    try:
        supervisor = ray.get_actor(supervisor_name(settings.name), namespace=NAMESPACE)
        served = ray.get(supervisor.state.remote(), timeout=60).store
    except (ValueError, ray.exceptions.RayActorError):  # there is none, or it just ended
        return
    if served != settings.store:
        raise SimshardError(f"application {settings.name} of this cluster serves {served}; choose another --name")


def _listens(host: str, port: int) -> bool:
    """Whether Serve runs in this cluster, and listens so: it has one address for all applications.

    Where it listens elsewhere, it is ended if it has no application, to be started anew. Raises SimshardError.
    """
    from ray import serve
    from ray.serve.context import _get_global_client  # there is no public way to ask how Serve listens

    if not serve_runs():
        return False
    running = _get_global_client().http_config
    if (running.host, running.port) == (host, port):
        return True
    applications = serve.status().applications
    if not applications:
        serve.shutdown()
        return False
    where = "127.0.0.1" if running.host == REPLICAS_ONLY else running.host
    raise SimshardError(
        f"Serve listens on {where}, port {running.port}, in this cluster, for all its applications "
        f"({', '.join(applications)}); say --host {where} --port {running.port} and a --route-prefix of its own, "
        "or end Serve there with: serve shutdown"
    )
