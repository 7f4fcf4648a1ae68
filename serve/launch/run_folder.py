"""The private folder of one `simshard serve`: what it starts lives there, so that what a crash left is recognised.

A lock on the folder lasts as long as its owner. A folder that nobody holds is a leftover: processes that name it in
their arguments or environment, or write to files in it, are ended, and it is removed.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from pathlib import Path

import psutil

from simshard.shards.private_folders import lock_unowned, make_folder, run_folders

_END_TIMEOUT = 1.0  # twice: with what `simshard serve` waits before, 10 s in all


class RunFolder:
    """A new mode-700 folder with a short path, locked by this process. Raises SimshardError."""

    def __init__(self) -> None:
        self.path = make_folder(secrets.token_hex(2))
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
    for folder in run_folders():
        lock = lock_unowned(folder)
        if lock is not None:
            ended += _end_processes(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
    return ended


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
