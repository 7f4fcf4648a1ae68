"""The nodes of a Ray cluster that was joined: whether they run the same versions and see the same files."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simshard.shards.errors import SimshardError, StoreError

_TIMEOUT = 60.0  # a node's first worker takes seconds to start


@dataclass(frozen=True)
class Node:
    """What a node said of itself.

    versions: of Python, Ray and simshard, None for what is not installed; sizes: of the paths that were asked for, in
    bytes, None for one that it does not see; environment: of the variables that were asked for, what Ray's processes
    there were started with; port_taken: why nobody can listen on the port that was asked for, None where it is free.
    """

    address: str
    versions: Mapping[str, str | None]
    environment: Mapping[str, str]
    sizes: Mapping[str, int | None]
    port_taken: str | None = None


def look(paths: Sequence[str], variables: Sequence[str], port: int | None = None) -> dict[str, Any]:
    """What `Node` holds, of the node that this runs on. Runs where simshard may be missing: it needs nothing of it.

    Only the variables that are asked for leave the node: others may hold keys and tokens.
    """
    import os
    import platform
    import socket
    from importlib import metadata

    versions: dict[str, str | None] = {"Python": platform.python_version()}
    for name, package in (("Ray", "ray"), ("simshard", "simshard")):
        try:
            versions[name] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[name] = None
    sizes: dict[str, int | None] = {}
    for path in paths:
        try:
            sizes[path] = os.stat(path).st_size
        except OSError:
            sizes[path] = None
    environment = {name: os.environ[name] for name in variables if name in os.environ}
    taken = None
    if port is not None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))  # noqa: S104 - nothing is accepted
            except OSError as error:
                taken = error.strerror
    return {"versions": versions, "environment": environment, "sizes": sizes, "port_taken": taken}


def look_at_nodes(paths: Iterable[str | Path], variables: Sequence[str] = (), port: int | None = None) -> list[Node]:
    """Every node that is alive, ordered by address. Raises SimshardError for one that does not answer."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    module = sys.modules[__name__]
    ray.cloudpickle.register_pickle_by_value(module)  # a node with no simshard, or another one, must still answer
    try:
        remote = ray.remote(num_cpus=0, max_retries=0)(look)
        alive = [node for node in ray.nodes() if node["Alive"]]
        asked = {
            remote.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                [str(path) for path in paths], variables, port
            ): node["NodeManagerAddress"]
            for node in alive
        }
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)
    _, late = ray.wait(list(asked), num_returns=len(asked), timeout=_TIMEOUT)
    if late:
        raise SimshardError(
            f"{named([asked[ref] for ref in late])} of the cluster gave no answer within {_TIMEOUT:.0f} s; "
            "look there with `ray status`, or end Ray there"
        )
    try:
        nodes = [Node(address, **ray.get(ref)) for ref, address in asked.items()]
    except ray.exceptions.RayError as error:
        raise SimshardError(
            f"a node of the cluster went while it was looked at: {str(error).splitlines()[0]}"
        ) from error
    return sorted(nodes, key=lambda node: node.address)


def check_versions(nodes: Sequence[Node]) -> None:
    """Raise SimshardError, naming node and version, where one differs from this process."""
    here = look([], [])["versions"]
    for node in nodes:
        for name, version in node.versions.items():
            if version != here[name]:
                has = f"{name} {version}" if version else f"no {name}"
                raise SimshardError(
                    f"node {node.address} has {has}, this command {name} {here[name]}; install the same on every node"
                )


def check_seen(nodes: Sequence[Node], path: str | Path, what: str) -> None:
    """Raise SimshardError, naming node and path, where a node does not see a file that is here."""
    size = os.stat(path).st_size
    blind = [node.address for node in nodes if node.sizes[str(path)] != size]
    if blind:
        raise SimshardError(
            f"{named(blind)} of the cluster: {what} is not seen there, or is another one; "
            "it must be on a file system that all nodes share, under the same path"
        )


def check_build(store: Path, inputs: Sequence[str]) -> None:
    """Raise SimshardError where a node of the cluster cannot build: another version, or a store or input not seen."""
    try:
        store.mkdir(parents=True, exist_ok=True)
        probe = tempfile.NamedTemporaryFile(dir=store, prefix=".seen-")
    except OSError as error:
        raise StoreError(f"{store}: cannot be written ({error.strerror})") from error
    with probe:
        there = [path for path in inputs if os.path.isfile(path)]  # the build tells of those that are not
        nodes = look_at_nodes([os.path.abspath(path) for path in (probe.name, *there)])
        check_versions(nodes)
        check_seen(nodes, os.path.abspath(probe.name), f"the store {store.absolute()}")
        for path in there:
            check_seen(nodes, os.path.abspath(path), os.path.abspath(path))


def named(addresses: Sequence[str]) -> str:
    """Nodes as messages call them."""
    return f"node{'s' * (len(addresses) > 1)} {', '.join(addresses)}"
