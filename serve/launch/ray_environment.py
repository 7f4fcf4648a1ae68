"""What the environment of Ray's processes must hold: those of a cluster of our own, and those of a cluster to join.

It must be there before Ray is imported: Ray reads it at import.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from simshard.serve.launch import haproxy
from simshard.serve.launch.ports import free_port
from simshard.serve.schema.keys import HOST_VARIABLE
from simshard.shards.errors import SimshardError
from simshard.shards.private_folders import private_folder
from simshard.shards.ray_cluster import AUTH_VARIABLE, LOOPBACK_VARIABLE, TOKEN_FILE_VARIABLE, past_proxies, token_file

HAPROXY_FOLDER = "h"  # short: its sockets' paths have a limit

_RAY = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "PYTHONUTF8": "1",  # Ray writes files with arrows in them in whatever encoding the locale has
    AUTH_VARIABLE: "token",
    "RAY_worker_niceness": "0",  # as the command itself; with 15, as Ray has it, a busy machine starves actors
    "RAY_SERVE_LOG_TO_STDERR": "0",
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "120",  # then it is started anew; Ray's 5 are few on a busy machine
    # Two hops between threads a request are saved; whatever takes long goes to our own pool of threads.
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_DIRECT_INGRESS_PORT_RETRY_COUNT": "1000",  # a replica takes the next port where others hold many
}
_FIXED_PORTS = {
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": "8500",
    "RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT": "30000",
    "RAY_SERVE_DIRECT_INGRESS_MAX_HTTP_PORT": "31000",
    "RAY_SERVE_HAPROXY_STATS_PORT": "8404",
    "RAY_SERVE_HAPROXY_METRICS_PORT": "9101",
}
_KEPT = ("RAY_BACKEND_LOG_LEVEL", "RAY_SERVE_HAPROXY_BINARY_PATH")

# What a node must have, any value for None, and what it costs where it does not; the rest costs nothing worth a line.
COSTS = {
    "RAY_SERVE_ENABLE_HA_PROXY": ("1", "Ray's Python proxy answers there, at a tenth of the rate"),
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": ("0", "each request takes two hops between threads more"),
    "RAY_worker_niceness": ("0", "actors starve there as soon as the machine is busy"),
    "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": (None, "on a busy machine its proxy is killed before it is ready"),
    "RAY_SERVE_HAPROXY_BINARY_PATH": (None, "the statistics of its HAProxy are open to every network"),
    "RAY_SERVE_HAPROXY_SOCKET_PATH": (None, "every user of the machine may command its HAProxy"),
}


def foreign() -> list[str]:
    """The variables of this process that are meant for another Ray cluster, or that would change one of our own."""
    kept = (
        (*_KEPT, "RAY_CLIENT_MODE") if os.environ.get("RAY_CLIENT_MODE") == "0" else _KEPT
    )  # which importing Ray sets
    return sorted(name for name in os.environ if name.startswith("RAY_") and name not in kept)


def of_own_cluster(folder: Path, host: str) -> dict[str, str]:
    """The variables of a cluster of our own, all of it on loopback; `host`: where its front end listens.

    Makes what they name in the run folder `folder`: the cluster's token, readable by its owner only.
    """
    token = folder / "token"
    _make_token(token)
    variables = {
        **_RAY,
        LOOPBACK_VARIABLE: "0",
        TOKEN_FILE_VARIABLE: str(token),
        "RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "0",
        "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_STATS_PORT": str(free_port()),
        "RAY_SERVE_HAPROXY_METRICS_PORT": str(free_port()),
    }
    front_end = _front_end(folder)
    return variables | past_proxies() | front_end | ({HOST_VARIABLE: host} if front_end else {})


def of_node() -> dict[str, str]:
    """The variables that a node of a cluster must have before Ray starts there: fixed ports and folders.

    Makes the folder of its HAProxy. Raises SimshardError where that cannot be made.
    """
    draining = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
    return _RAY | draining | _FIXED_PORTS | past_proxies() | _front_end(private_folder())


def _front_end(folder: Path) -> dict[str, str]:
    program = haproxy.program()
    if program is None:
        return {}
    place = folder / HAPROXY_FOLDER
    place.mkdir(mode=0o700, exist_ok=True)
    return haproxy.variables(place, program)


def write_token() -> Path:
    """The file of the user's Ray token, made if there is none, readable by its owner only. Raises SimshardError."""
    path = token_file()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_token(path)
    except FileExistsError:
        pass
    except OSError as error:
        raise SimshardError(
            f"{path}: the token cannot be written ({error.strerror}); set {TOKEN_FILE_VARIABLE}"
        ) from error
    return path


def _make_token(path: Path) -> None:
    """Write a new token for its owner alone. Raises OSError, FileExistsError among them."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
