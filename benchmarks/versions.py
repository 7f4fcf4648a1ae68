"""Serving figures of a commit and of this tree, side by side in one run: whether a change made anything slower."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import load, machine, record, reference

Figures = dict[str, Any]
ITEMS = 8_000
ROUNDS = 12
SECONDS = 2.0


def install(commit: str, folder: Path) -> Path:
    """The program `simshard` of a commit, in an environment of its own over the packages of this one."""
    source = folder / "source"
    source.mkdir()
    archive = subprocess.run(["git", "-C", record.ROOT, "archive", commit], check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", source], input=archive, check=True)
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
    ]
    subprocess.run([*wheel, source], check=True)
    venv = folder / "venv"
    subprocess.run([sys.executable, "-m", "venv", venv], check=True)
    # A path alone: the .pth file of this tree's editable install, which lies there, is not followed.
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(venv)}))
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (built,) = folder.glob("simshard-*.whl")
    run = [venv / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", built]
    subprocess.run(run, check=True)
    return venv / "bin/simshard"


def versions(folder: Path, commit: str) -> record.Result:
    """Requests a second, latency, and CPU time a request of all processes of a server, Ray's idle work included."""
    old = folder / "before"
    old.mkdir()
    program = install(commit, old)
    store = reference.write_store(folder / "versions", ITEMS)
    pool = load.Choice(ITEMS, zipf=False).draw(500, 1).tolist()
    scripts = {
        "the best of one item": load.Choice(ITEMS, zipf=False).script(folder / "items.txt", 3),
        "20 seeds": load.recommend_script(sorted(set(pool)), folder / "pool.txt", 3),
    }
    figures: Figures = {"before": commit}
    # One after the other in each round, so that both meet the same moods of the machine.
    with (
        machine.Server(store.root, "--redis", "off", program=program) as before,
        machine.Server(store.root, "--redis", "off") as now,
    ):
        for name, script in scripts.items():
            for connections in (1, 8):
                runs: dict[str, list[dict[str, float]]] = {"before": [], "now": []}
                for turn in range(ROUNDS):
                    sides = [("before", before), ("now", now)]
                    for side, server in sides if turn % 2 else reversed(sides):
                        begun = server.cpu_s()
                        run = machine.wrk(server.url, script, connections, SECONDS)
                        run["cpu_us"] = round((server.cpu_s() - begun) / run["requests"] * 1e6, 1)
                        runs[side].append(run)
                figures[f"{name}, {connections} connection{'s' * (connections > 1)}"] = {
                    **{side: _medians(some) for side, some in runs.items()},
                    **{f"now / before, {what}": _ratio(runs, what) for what in ("requests_per_s", "cpu_us")},
                }
        figures["private_mb"] = {"before": _ours(before), "now": _ours(now)}
    return record.Result(record.size(store), figures)


def _medians(runs: list[dict[str, float]]) -> Figures:
    return {
        **{what: round(median(run[what] for run in runs), 3) for what in ("requests_per_s", "p50_ms", "cpu_us")},
        "failed": sum(run["failed"] for run in runs),
    }


def _ratio(runs: dict[str, list[dict[str, float]]], what: str) -> Figures:
    """The median of the ratios of runs that follow each other, and where the middle half of them lies."""
    ratios = sorted(new[what] / old[what] for old, new in zip(runs["before"], runs["now"], strict=True))
    quarter = len(ratios) // 4
    return {"median": round(median(ratios), 3), "half": [round(ratios[at], 3) for at in (quarter, -1 - quarter)]}


def _ours(server: machine.Server) -> float:
    """Private memory of our own processes."""
    return round(sum(mb for name, mb in server.memory().items() if name != "ray itself"), 1)
