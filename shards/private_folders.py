"""The private folders of this user on this machine: one for each run, held by a lock as long as its owner runs, and one
for what outlives runs.

All of them lie in `/tmp/simshard-UID`, or in the folder UID of the one that SIMSHARD_RUN_DIR names.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path

from simshard.shards.errors import SimshardError

RUN_DIR_VARIABLE = "SIMSHARD_RUN_DIR"

_LONGEST = 33  # of a folder's path: Ray's longest socket adds 66 letters to it, HAProxy's 64, of 107 and 97 allowed


def running_folders() -> list[Path]:
    """The run folders of this user whose owners run."""
    found = []
    for folder in run_folders():
        lock = lock_unowned(folder, fcntl.LOCK_SH)  # others may look at the same moment
        if lock is None:
            found.append(folder)
        else:
            os.close(lock)
    return found


def private_folder() -> Path:
    """The mode-700 folder of this user for what outlives a run: a cluster's node. Raises SimshardError."""
    return make_folder("n", exist_ok=True)


def run_folders() -> list[Path]:
    """The run folders of this user, leftovers among them. Raises SimshardError."""
    base = _base_path()
    return [path for path in _base().iterdir() if re.fullmatch(r"[0-9a-f]{4,6}", path.name)] if base.exists() else []


def lock_unowned(folder: Path, kind: int = fcntl.LOCK_EX) -> int | None:
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


def make_folder(name: str, exist_ok: bool = False) -> Path:
    """A mode-700 folder of this user, made. Raises SimshardError."""
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
