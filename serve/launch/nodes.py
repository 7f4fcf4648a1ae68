"""Whether the nodes of a cluster that was joined can serve, and what they lack."""

from __future__ import annotations

import os
from collections.abc import Sequence

from simshard.serve.launch.haproxy import PROGRAM, REPLICAS_ONLY
from simshard.serve.launch.ray_environment import COSTS
from simshard.serve.schema.keys import API_KEY_VARIABLE, HOST_VARIABLE, is_loopback
from simshard.serve.settings import InvalidSetting
from simshard.shards.errors import SimshardError
from simshard.shards.ray_cluster import AUTH_VARIABLE
from simshard.shards.ray_nodes import Node, named

VARIABLES = (*COSTS, AUTH_VARIABLE, HOST_VARIABLE)


def check_ports(nodes: Sequence[Node], port: int) -> None:
    """Raise SimshardError, naming the node, where another program listens on the port."""
    for node in nodes:
        if node.port_taken:
            raise SimshardError(
                f"port {port} of node {node.address} is taken ({node.port_taken}); end what listens there, "
                "or choose another --port"
            )


def check_guarded(nodes: Sequence[Node], api_key: str | None, trusted: bool) -> None:
    """Raise SimshardError where others than this machine's could ask the cluster's replicas, or run code on it.

    trusted: the network is, as far as Ray itself goes; the API key is needed all the same.
    """
    if all(is_loopback(node.address) for node in nodes):
        return
    if not api_key:
        raise InvalidSetting(
            f"the cluster's replicas can be reached from other machines ({nodes[0].address}); set {API_KEY_VARIABLE}"
        )
    open_ = [node.address for node in nodes if node.environment.get(AUTH_VARIABLE) != "token"]
    if open_ and not trusted:
        raise SimshardError(
            f"{named(open_)} of the cluster: Ray runs there without token authentication: anybody can run code; "
            'start Ray there after eval "$(simshard env)", or say --trust-network'
        )


def missing(nodes: Sequence[Node]) -> list[str]:
    """A sentence for each variable that nodes lack: which, where, and what it costs."""
    lines = []
    for name, (value, cost) in COSTS.items():
        wanted = name if value is None else f"{name}={value}"
        lacking = [
            node.address for node in nodes if node.environment.get(name) != (value or node.environment.get(name, ""))
        ]
        if lacking and not (name.startswith("RAY_SERVE_HAPROXY") and not _haproxy(nodes)):
            lines.append(
                f'{named(lacking)} of the cluster: no {wanted}: {cost}; start Ray there after eval "$(simshard env)"'
            )
    return lines


def serve_host(nodes: Sequence[Node], host: str) -> str:
    """What Ray Serve is to be told as its host, so that front ends listen on `host` and HAProxy reaches every replica.

    Raises SimshardError where the nodes cannot do so.
    """
    fixed = {node.environment[HOST_VARIABLE] for node in nodes if HOST_VARIABLE in node.environment}
    if fixed:  # a cluster of another `simshard serve`: its front end listens already
        if fixed != {host}:
            raise SimshardError(f"the front end of this cluster listens on {fixed.pop()}; say it with --host")
        return "127.0.0.1"
    if all(is_loopback(node.address) for node in nodes) or not _haproxy(nodes):
        return host
    if host not in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104 - only looked at
        raise SimshardError(f"host {host}: every node answers on a cluster; say --host 0.0.0.0, or 127.0.0.1")
    if not is_loopback(host):
        return host
    for node in nodes:
        if os.path.basename(node.environment.get("RAY_SERVE_HAPROXY_BINARY_PATH", "")) != PROGRAM:
            raise SimshardError(
                f"node {node.address} runs HAProxy without {PROGRAM}, which would open its front end to every network; "
                'start Ray there after eval "$(simshard env)", or say --host 0.0.0.0'
            )
    return REPLICAS_ONLY


def _haproxy(nodes: Sequence[Node]) -> bool:
    return any(node.environment.get("RAY_SERVE_ENABLE_HA_PROXY") == "1" for node in nodes)
