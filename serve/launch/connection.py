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

from simshard.serve.launch.ray_environment import AUTH_VARIABLE, LOOPBACK_VARIABLE, past_proxies, token_file
from simshard.serve.launch.run_folder import running_folders
from simshard.shards.errors import SimshardError

Log = logging.getLogger("simshard.connection")

_FILE = "connection.json"
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
