"""The private folder of one `simshard serve`: what it starts lives there, so that what a crash left is recognised.

A lock on the folder lasts as long as its owner. A folder that nobody holds is a leftover: processes that name it in
their arguments or environment, or write to files in it, are ended, and it is removed.

All of them, and what else simshard keeps on a machine, lie in `/tmp/simshard-UID`, or in the folder UID of the one that
SIMSHARD_RUN_DIR names.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import stat
from contextlib import suppress
from pathlib import Path

import psutil

from simshard.shards.errors import SimshardError

RUN_DIR_VARIABLE = "SIMSHARD_RUN_DIR"

_END_TIMEOUT = 1.0  # twice: with what `simshard serve` waits before, 10 s in all
_LONGEST = 33  # of a run folder's path: Ray's longest socket adds 66 letters to it, HAProxy's 64, of 107 and 97 allowed
_PORTS = range(20_000, 30_000)  # Ray's workers are below, Serve's replicas above


class RunFolder:
    """A new mode-700 folder with a short path, locked by this process. Raises SimshardError."""

    def __init__(self) -> None:
        self.path = _private(secrets.token_hex(2))
        self._lock = os.open(self.path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> list[int]:
        """End whatever still runs out of the folder and remove it; the pids ended."""
        ended = _end_processes(self.path)
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        return ended


def clean_leftovers() -> list[int]:
    """End and remove what crashed runs of this user left; the pids ended."""
    ended: list[int] = []
    for folder in _runs():
        lock = _unowned(folder)
        if lock is not None:
            ended += _end_processes(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    return ended


def running_folders() -> list[Path]:
    """The run folders of this user whose owners run."""
    found = []
    for folder in _runs():
        lock = _unowned(folder, fcntl.LOCK_SH)  # others may look at the same moment
        if lock is None:
            found.append(folder)
        else:
            os.close(lock)
    return found


def private_folder() -> Path:
    """The mode-700 folder of this user for what outlives a run: a cluster's node. Raises SimshardError."""
    return _private("n", exist_ok=True)


def _runs() -> list[Path]:
    base = _base_path()
    return [path for path in _base().iterdir() if re.fullmatch(r"[0-9a-f]{4,6}", path.name)] if base.exists() else []


def _unowned(folder: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """The lock of a folder that nobody holds, now held; None where somebody holds it, or it is gone."""
    try:
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _private(name: str, exist_ok: bool = False) -> Path:
    path = _base() / name
    if len(os.fsencode(path)) > _LONGEST:
        longest = _LONGEST - len(f"/{os.getuid()}/{'x' * 4}")
        raise SimshardError(
            f"{RUN_DIR_VARIABLE}: at most {longest} letters; a longer path leaves too few for the sockets below it"
        )
    try:
        path.mkdir(mode=0o700, exist_ok=exist_ok)
    except OSError as error:
        raise SimshardError(_no_folder(path, error)) from error
    return path


def _no_folder(path: Path, error: OSError) -> str:
    return f"{path}: the folder cannot be made ({error.strerror}); let {RUN_DIR_VARIABLE} name one that can be written"


def _base_path() -> Path:
    given = os.environ.get(RUN_DIR_VARIABLE)
    return Path(given).absolute() / str(os.getuid()) if given else Path("/tmp") / f"simshard-{os.getuid()}"  # noqa: S108


def _base() -> Path:
    base = _base_path()
    try:
        base.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SimshardError(_no_folder(base, error)) from error
    status = base.lstat()
    if status.st_uid != os.getuid() or stat.S_IMODE(status.st_mode) != 0o700 or not stat.S_ISDIR(status.st_mode):
        raise SimshardError(f"{base}: not a folder of mode 700 of this user; remove it")
    return base


def _end_processes(folder: Path) -> list[int]:
    """End this user's processes that name the folder in their arguments or environment, or write to files in it."""
    needle = f"{folder}/"
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid == os.getpid() or process.uids().real != os.getuid():
                continue
            files = [file.path for file in process.open_files()]
            if any(needle in word for word in (*process.cmdline(), *process.environ().values(), *files)):
                process.terminate()
                found.append(process)
        except psutil.Error:
            continue
    for process in psutil.wait_procs(found, _END_TIMEOUT)[1]:
        process.kill()
    psutil.wait_procs(found, _END_TIMEOUT)
    return [process.pid for process in found]


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
