"""What every result states beside its figures: commit, command, scale, date, machine. All of them are written here."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from functools import cache
from numbers import Number
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import machine
from simshard.shards.store import Store

ROOT = Path(__file__).resolve().parents[1]
STATED = ("commit", "command", "scale", "date", "machine")


class Result(NamedTuple):
    """What a part gives: scale, the numbers (by name) of what it was about, and its figures."""

    scale: dict[str, Any]
    figures: dict[str, Any]


def size(store: Store) -> dict[str, Any]:
    """The scale of what is measured on a store: its items, pairs and shards."""
    manifest = store.manifest()
    return {"items": manifest.items, "pairs": manifest.pairs, "shards": len(manifest.shards)}


def write(target: Path, result: Result) -> dict[str, Any]:
    """Write a result as JSON with all that it states; what was written. Raises ValueError for one without a scale."""
    if not any(has_number(value) for value in result.scale.values()):
        raise ValueError(f"{target.name}: its scale names no number")
    told = {
        "commit": commit(),
        "command": command(sys.orig_argv),
        "scale": result.scale,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine.details(),
        "figures": result.figures,
    }
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(told, indent=2) + "\n")
    return told


def stated(told: dict[str, Any]) -> str:
    """Command, commit and date of a result in words, for what is made of it."""
    return f"{told['command']}, commit {told['commit'] or 'unknown'}, {told['date']}"


@cache
def commit() -> str | None:
    """The commit of this clone when it is first asked for, with -dirty where files beside results differ from it.

    None outside of a clone.
    """
    try:
        if Path(_git("rev-parse", "--show-toplevel")).resolve() != ROOT:
            return None  # unpacked inside of some other repository
        changed = _git("status", "--porcelain", "--", ".", ":!benchmarks/results")
        return _git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(*arguments: str) -> str:
    words = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout.strip()


def command(words: list[str]) -> str:
    """The command line without what only this machine has: its Python, and where project, home and scratch are."""
    line = shlex.join(["python", *words[1:]])
    places = {ROOT: "", ROOT.parent: "../", Path.home(): "~/", Path(tempfile.gettempdir()).resolve(): "$TMPDIR/"}
    for place, name in places.items():
        if place != Path("/"):
            line = re.sub(rf"(?<![\w.~$/]){re.escape(str(place))}/", name, line)
    return re.sub(r"(?<![\w.~$/:])/[^\s'=]*/", ".../", line)


def has_number(value: Any) -> bool:
    """Whether a number stands anywhere in it."""
    if isinstance(value, dict | list):
        return any(map(has_number, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Number)
