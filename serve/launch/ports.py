"""TCP ports: a free one, and who holds one that is not."""

from __future__ import annotations

import errno
import secrets
import socket
from contextlib import suppress

import psutil

from simshard.shards.errors import SimshardError

_PORTS = range(20_000, 30_000)  # Ray's workers are below, Serve's replicas above


def free_port() -> int:
    """A TCP port of the loopback interface that is free now.

    Below those that connections are given, of which Ray makes many: one could take it before it is listened on.
    """
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def check_port(host: str, port: int) -> None:
    """Raise SimshardError, naming the process if it can be known, where something listens on the port already."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise SimshardError(f"host {host}, port {port}: nobody can listen there ({error.strerror})") from error
        reason = error.strerror
    holder = ""
    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                holder = f" by {psutil.Process(connection.pid).name()} (pid {connection.pid})"
                break
    except psutil.Error:
        pass
    raise SimshardError(
        f"port {port} of {host} is taken{holder} ({reason}); end that process, or choose another --port"
    )
