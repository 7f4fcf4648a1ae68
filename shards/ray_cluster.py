"""How a process joins a Ray cluster: one that a `simshard serve` of this user started, or any other.

A running `simshard serve` keeps a file of mode 600 in its run folder that says where its cluster is and which variables
a job needs there, so that whoever is the same user on the same machine needs no more than the application's name.
"""

from __future__ import annotations

import logging
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import orjson

from simshard.shards.errors import SimshardError
from simshard.shards.private_folders import running_folders

Log = logging.getLogger("simshard.ray_cluster")

LOOPBACK_VARIABLE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray takes 127.0.0.1 for the node's address
TOKEN_FILE_VARIABLE = "RAY_AUTH_TOKEN_PATH"  # noqa: S105 - a file's name
AUTH_VARIABLE = "RAY_AUTH_MODE"

_FILE = "connection.json"
_HERE = ("localhost", "127.0.0.1", "::1", "169.254.169.254", "metadata.google.internal")
_applied: list[str] = []  # variables that `join` has put into the environment


@dataclass(frozen=True)
class Connection:
    """A running application: its name, its URL, the address of its Ray cluster, and the variables that a job needs."""

    app: str
    url: str
    address: str
    variables: Mapping[str, str] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Keep it in a run folder, for this user only."""
        with open(os.open(folder / _FILE, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(orjson.dumps(asdict(self)))

    @property
    def environment(self) -> dict[str, str]:
        """What a process that is to join has in its environment."""
        return {"RAY_ADDRESS": self.address, **self.variables}


def connections() -> list[Connection]:
    """The applications that this user's `simshard serve` processes run on this machine."""
    found = []
    for folder in running_folders():
        with suppress(OSError, ValueError, TypeError):  # it starts, or ends
            found.append(Connection(**orjson.loads((folder / _FILE).read_bytes())))
    return found


def find(app: str) -> Connection:
    """The running application of that name. Raises SimshardError where there is none here, or more than one."""
    running = connections()
    named = [each for each in running if each.app == app]
    if not named:
        others = ", ".join(sorted(each.app for each in running)) or "none"
        raise SimshardError(f"no simshard serve of this user runs an application {app!r} here; running: {others}")
    if len(named) > 1:
        addresses = ", ".join(each.address for each in named)
        raise SimshardError(f"several applications {app!r} run here; name the address of one: {addresses}")
    return named[0]


def of_job(variables: Mapping[str, str]) -> dict[str, str]:
    """Of a cluster's variables, those that a process needs to join it."""
    return {
        name: variables[name] for name in (LOOPBACK_VARIABLE, AUTH_VARIABLE, TOKEN_FILE_VARIABLE) if name in variables
    }


def join(address: str | None, app: str | None = None) -> None:
    """Join a Ray cluster: at `address`; else where RAY_ADDRESS says; else that of the application `app` run here.

    A cluster of our own is joined with what its connection file says, any other one with the user's token, which Ray
    does not send of its own accord. None at all: Ray looks for one on this machine. Raises SimshardError.
    """
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "error")
    os.environ.update(past_proxies())
    address = (address or os.environ.get("RAY_ADDRESS") or "auto").replace("localhost:", "127.0.0.1:")
    for name in _applied:  # what an earlier cluster needed
        os.environ.pop(name, None)
    running = _running(address, app)
    _applied[:] = running.variables if running else ()
    if running:
        address = running.address
        os.environ.update(running.variables)
    else:
        _use_token()
    if "ray" in sys.modules:
        _apply()
    import ray

    try:
        ray.init(address=address, namespace="simshard", log_to_driver=False, logging_level=logging.WARNING)
    except (ConnectionError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = " ".join(str(error).split())
        raise SimshardError(f"the Ray cluster at {address} cannot be joined: {reason}") from error


def _running(address: str, app: str | None) -> Connection | None:
    """The application of this user whose cluster is to be joined; None for a cluster of another kind."""
    here = {each.address: each for each in connections()}
    if address != "auto" or not here:
        return here.get(address)
    if app is not None:
        return find(app)
    from ray._private.services import find_gcs_addresses

    found = find_gcs_addresses()  # what Ray would find, and not know how to join
    return here.get(found.pop()) if len(found) == 1 else None


def _use_token() -> None:
    """Let Ray send the user's token, if there is one; whoever can read it may run code as this user."""
    try:
        path = token_file()
        mode = path.stat().st_mode
    except OSError:
        return
    if os.environ.setdefault(AUTH_VARIABLE, "token") == "token" and mode & (stat.S_IRGRP | stat.S_IROTH):
        Log.warning("simshard: others can read the token in %s and so run code as you: chmod 600 %s", path, path)


def _apply() -> None:
    """Let a Ray that was imported before see the variables that it reads at import; it has no public way to."""
    import ray
    from ray._private import ray_constants

    default = "0" if ray_constants.IS_WINDOWS_OR_OSX else "1"
    ray_constants.ENABLE_RAY_CLUSTER = os.environ.get(LOOPBACK_VARIABLE, default) != "0"
    ray._raylet.Config.initialize("")
    ray._raylet.AuthenticationTokenLoader.instance().reset_cache()


def past_proxies() -> dict[str, str]:
    """The variables by which Ray's processes reach this machine itself past a proxy that the environment names.

    Ray's calls for metrics go through gRPC, which would ask the proxy; and Ray asks where it runs, of its cloud.
    """
    named = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    hosts = [host for host in named.split(",") if host]
    value = ",".join([*hosts, *(host for host in _HERE if host not in hosts)])
    return {"no_proxy": value, "NO_PROXY": value}


def token_file() -> Path:
    """Where Ray looks for the user's token."""
    given = os.environ.get(TOKEN_FILE_VARIABLE)
    return Path(given or os.path.expanduser("~/.ray/auth_token"))  # which stays so for a user without a home
