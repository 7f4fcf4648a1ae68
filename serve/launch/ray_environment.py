"""What the environment of Ray's processes must hold: those of a cluster of our own, and those of a cluster to join.

It must be there before Ray is imported: Ray reads it at import.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from simshard.serve.launch import haproxy
from simshard.serve.launch.run_folder import free_port, private_folder
from simshard.shards.errors import SimshardError

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray takes 127.0.0.1 for the node's address
TOKEN_FILE_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - a file's name
AUTH_VARIABLE = "RAY_AUTH_MODE"

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
_HERE = ("localhost", "127.0.0.1", "::1", "169.254.169.254", "metadata.google.internal")
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
    return variables | past_proxies() | front_end | ({haproxy.HOST_VARIABLE: host} if front_end else {})


def of_job(variables: Mapping[str, str]) -> dict[str, str]:
    """Of a cluster's variables, those that a process needs to join it."""
    return {
        name: variables[name] for name in (LOOPBACK_VARIABLE, AUTH_VARIABLE, TOKEN_FILE_VARIABLE) if name in variables
    }


def of_node() -> dict[str, str]:
    """The variables that a node of a cluster must have before Ray starts there: fixed ports and folders.

    Makes the folder of its HAProxy. Raises SimshardError where that cannot be made.
    """
    draining = {"RAY_SERVE_DIRECT_INGRESS_MIN_DRAINING_PERIOD_S": "1"}
    return _RAY | draining | _FIXED_PORTS | past_proxies() | _front_end(private_folder())


def past_proxies() -> dict[str, str]:
    """The variables by which Ray's processes reach this machine itself past a proxy that the environment names.

    Ray's calls for metrics go through gRPC, which would ask the proxy; and Ray asks where it runs, of its cloud.
    """
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in named.split(",") if host]
    value = ",".join([*hosts, *(host for host in _HERE if host not in hosts)])
    return {"no_proxy": value, "NO_PROXY": value}


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


def token_file() -> Path:
    """Where Ray looks for the user's token."""
    given = os.environ.get(TOKEN_FILE_VARIABLE)
    return Path(given or os.path.expanduser("~/.ray/auth_token"))  # which stays so for a user without a home
