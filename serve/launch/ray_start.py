"""Ray for one run of `simshard serve`: a cluster of its own, all of it on loopback, or one that is joined."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from simshard.serve.launch import haproxy
from simshard.serve.launch.nodes import VARIABLES, check_guarded, check_ports, missing, serve_host
from simshard.serve.launch.ray_environment import HAPROXY_FOLDER, foreign, of_own_cluster
from simshard.shards.manifest import MANIFEST
from simshard.shards.ray_cluster import join, of_job
from simshard.shards.ray_nodes import check_seen, check_versions, look_at_nodes
from simshard.shards.store import Store

_OBJECT_STORE = 128 << 20  # actor answers pass through it; the matrix does not
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Ray keeps its object store
_CONTROLLER = {"name": "SERVE_CONTROLLER_ACTOR", "namespace": "serve"}  # as Ray Serve names it
_FINISH = 5.0  # seconds for answers in flight, when everything ends


class OwnCluster:
    """A cluster of our own, started under the run folder and ended by `close`; its front end listens on `host`.

    What the environment says of Ray is for another cluster: it is left out, and `ignored` names it.
    """

    def __init__(self, folder: Path, host: str) -> None:
        self.ignored = foreign()
        for name in self.ignored:
            del os.environ[name]
        variables = of_own_cluster(folder, host)
        os.environ.update(variables)
        self.variables = of_job(variables)
        self.nodes = 1
        self.serve_host = "127.0.0.1" if "RAY_SERVE_ENABLE_HA_PROXY" in variables else host
        self._folder = folder
        import ray

        _quiet()
        small = _SHARED_MEMORY.is_dir() and shutil.disk_usage(_SHARED_MEMORY).free < _OBJECT_STORE
        ray.init(
            address="local",
            namespace="simshard",
            _temp_dir=str(folder / "ray"),
            include_dashboard=False,
            object_store_memory=_OBJECT_STORE,
            _plasma_directory=str(folder) if small else None,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )

    def finish_answers(self) -> None:
        """Let no new connection in, and wait until the answers in flight are sent, for a few seconds at most."""
        haproxy.finish_answers(self._folder / HAPROXY_FOLDER, _FINISH)

    def close(self) -> None:
        """End Serve and Ray."""
        import ray
        from ray import serve

        if ray.is_initialized():
            with suppress(Exception):
                serve.shutdown()
            ray.shutdown()


class JoinedCluster:
    """The cluster at `address`, joined, and left by `close`; `lacking` tells what its nodes lack, a sentence each.

    trusted: whether the network is, as far as Ray itself goes. Raises SimshardError where the nodes cannot serve the
    store at this host and port, or would serve it to everybody.
    """

    def __init__(self, address: str, store: Store, host: str, port: int, api_key: str | None, trusted: bool) -> None:
        join(address)
        _quiet()
        self.variables: Mapping[str, str] = of_job(os.environ)
        manifest = store.snapshots / store.resolve() / MANIFEST
        nodes = look_at_nodes([manifest], VARIABLES, port)
        check_versions(nodes)
        check_guarded(nodes, api_key, trusted)
        check_seen(nodes, manifest, f"the store {store.root}")
        if not serve_runs():
            check_ports(nodes, port)
        self.serve_host = serve_host(nodes, host)
        self.nodes = len(nodes)
        self.lacking = missing(nodes)

    def finish_answers(self) -> None:
        """Serve lets them finish as it ends the application."""

    def close(self) -> None:
        """Leave the cluster."""
        import ray

        ray.shutdown()


def address() -> str:
    """Where other jobs join the cluster that this process is in."""
    import ray

    return str(ray.get_runtime_context().gcs_address)


def serve_runs() -> bool:
    """Whether Ray Serve runs in the cluster that this process is in."""
    import ray

    return _CONTROLLER in ray.util.list_named_actors(all_namespaces=True)


def _quiet() -> None:
    from ray import serve  # noqa: F401 - sets its logger up, which is then told to be quiet

    for name in ("ray.serve", "ray._private.authentication.authentication_token_setup"):
        logging.getLogger(name).setLevel(logging.ERROR)
