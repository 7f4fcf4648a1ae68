"""Where a replica's time goes: samples of its stacks under load, by layer and by function."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load, machine, record, reference
from benchmarks.contenders import Contender, Site, choose, running

Figures = dict[str, Any]
_SECONDS = 8
_RATE = 400  # samples a second
_TOP = 15
# The innermost frame of one of these tells the layer; what a package calls in the standard library or in C is its own.
_LAYERS = {
    "simshard": ("simshard/",),
    "HTTP layer (Starlette, pydantic)": ("starlette/", "pydantic/"),
    "uvicorn": ("uvicorn/",),
    "Ray": ("ray/",),
}
_LOADS = {
    "one item, no cache": ("simshard-nocache", "uniform"),
    "one item, Zipf": ("simshard", "zipf"),
    "one item, actor transport": ("simshard-actors", "uniform"),
    "20 seeds": ("simshard-nocache", "20 seeds"),
    "empty deployment": ("floor", "uniform"),
}


def profiles(folder: Path, scale: float) -> record.Result:
    """By load: requests/s, CPU a request by process, and of the replica's samples the share of layers and functions."""
    items = reference.scaled(scale)
    store = reference.write_store(folder / "reference", items)
    pool = np.random.default_rng(9).choice(items, 200, replace=False).tolist()
    site = Site(folder, store, items, pool)
    figures: Figures = {}
    for name, (contender, kind) in _LOADS.items():
        with running(choose([contender])[contender], site) as served:
            if kind == "20 seeds":
                script = load.recommend_script(pool, folder / "pool.txt", 3)
            else:
                script = load.Choice(items, zipf=kind == "zipf").script(folder / f"{kind}.txt", 3)
            machine.wrk(served.url, script, 8, 4)
            measured = load.closed_loop(served.url, script, 8, _SECONDS, served.kinds)  # sampling slows it down
            samples = _samples(served, script, folder / "samples")
            figures[name] = {**measured, **_shares(samples)}
            print(name, json.dumps(figures[name]), flush=True)
    return record.Result({**record.size(store), "connections": 8}, figures)


def _samples(served: Contender, script: str, target: Path) -> list[tuple[list[str], int]]:
    """Stacks of the replica's threads that hold Python's lock, outermost frame first, and how often each was seen."""
    replica = next(process for process, kind in served.kinds().items() if kind == "replicas")
    command = [
        Path(sys.executable).with_name("py-spy"),
        "record",
        "--pid",
        str(replica.pid),
        "--gil",
        "--format",
        "raw",
    ]
    options = ["--rate", str(_RATE), "--duration", str(_SECONDS), "--output", str(target)]
    target.unlink(missing_ok=True)
    recorder = subprocess.Popen([*command, *options], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    machine.wrk(served.url, script, 8, _SECONDS + 3)
    if recorder.wait():
        raise SystemExit("py-spy could not look into the replica (it needs to be allowed to trace processes)")
    lines = (line.rsplit(" ", 1) for line in target.read_text().splitlines())
    return [(stack.split(";"), int(count)) for stack, count in lines]


def _shares(samples: Sequence[tuple[list[str], int]]) -> Figures:
    """Percent of the samples by layer, and by function: in it and what it calls that is of no layer."""
    layers: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for frames, count in samples:
        layer, frame = next(((_layer(each), each) for each in reversed(frames) if _layer(each)), ("others", frames[-1]))
        layers[layer or "others"] += count
        functions[re.sub(r":\d+\)$", ")", frame) or "unknown"] += count  # without the line
    total = sum(layers.values())
    return {
        "layers_percent": {name: round(100 * count / total, 1) for name, count in layers.most_common()},
        "functions_percent": {name: round(100 * count / total, 1) for name, count in functions.most_common(_TOP)},
    }


def _layer(frame: str) -> str | None:
    place = frame.partition("(")[2]
    for layer, folders in _LAYERS.items():
        if place.startswith(folders):
            return layer
    return None
