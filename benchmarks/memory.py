"""Private memory: what each import takes, and all processes with the full matrix served, cold and after a load."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks import load, machine, record, reference
from benchmarks.contenders import Simshard, Site, running

Figures = dict[str, Any]
LOAD = 1_000_000  # uniform requests
_IMPORTS = {
    "shard actor": ("numpy", "pyarrow", "ray", "simshard.shards.actor"),
    "replica": ("numpy", "pyarrow", "ray", "fastapi", "ray.serve", "simshard.serve.app"),
    "replica where pandas is installed": (
        "numpy",
        "pyarrow",
        "ray",
        "fastapi",
        "pandas",
        "ray.serve",
        "simshard.serve.app",
    ),
}
_STEPS = """
import importlib, json, re, sys
def private():
    return int(re.search(r"^Anonymous:\\s+(\\d+)", open("/proc/self/smaps_rollup").read(), re.M)[1]) / 1024
if "pandas" not in sys.argv:
    sys.modules["pandas"] = None  # as where it is not installed
steps, before = {"python": private()}, private()
for name in sys.argv[1:]:
    importlib.import_module(name)
    now = private()
    steps[name], before = now - before, now
print(json.dumps({name: round(size, 1) for name, size in steps.items()}))
"""


def memory(folder: Path, scale: float) -> record.Result:
    """MB of 2 shard actors, 2 replicas and all of Ray beside them; and of imports, one after the other."""
    items = reference.scaled(scale)
    store = reference.write_store(folder / "reference", items)
    imports = {kind: json.loads(machine.python(_STEPS, *names)) for kind, names in _IMPORTS.items()}
    figures: Figures = {"imports": imports, "items": items, "pairs": store.manifest().pairs}
    site = Site(folder, store, items, [0])
    choice = load.Choice(items, zipf=False)
    for name, options in {"default cache": (), "no cache": ("--cache", "0")}.items():
        contender = Simshard("simshard", "", "--redis", "off", "--replicas", "2", *options)
        with running(contender, site):
            cold, asked, seed = contender.memory(), 0, 0
            while asked < LOAD:
                seed += 1
                asked += int(
                    machine.wrk(contender.url, choice.script(folder / "uniform.txt", seed), 32, 20)["requests"]
                )
            figures[name] = {"cold": cold, "after": contender.memory(), "requests": asked}
            print(name, json.dumps(figures[name]), flush=True)
    return record.Result({**record.size(store), "replicas": 2}, figures)
