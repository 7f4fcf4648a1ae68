"""What an answer costs by class of question, computed, out of memory and out of Redis: where Redis is worth asking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import machine, questions
from simshard.shards.items import Items

Figures = dict[str, Any]

_DIFFERENT = 200  # requests of a class, each asked again and again
_LOAD = """
local requests = {%s}
local turn = 0
request = function()
  turn = turn %% #requests + 1
  return wrk.format("POST", "/v1/recommend", {["content-type"] = "application/json"}, requests[turn])
end
"""
_LOCAL = {
    "computed": ("--cache", "0", "--redis", "off"),
    "memory": ("--redis", "off"),
    "redis": ("--cache", "0", "--redis-classes", "similar,recommend"),
}
_REMOTE = {
    "computed": ("--cache", "0", "--redis", "off", "--transport", "actor"),
    "redis": ("--cache", "0", "--redis-classes", "similar,recommend", "--transport", "actor"),
}


def classes(folder: Path) -> Figures:
    """Milliseconds, p50 and p99 of one connection, by class and by where the answer comes from."""
    store = questions.build(folder)
    items = Items(store.snapshots / store.resolve())
    ids, condition = items.ids.to_numpy(), {"key": "pick", "range": {"lt": len(items) // 2}}
    figures: Figures = {}
    for where, kinds in {"local": _LOCAL, "remote": _REMOTE}.items():
        for source, options in kinds.items():
            with machine.Server(store.root, *options) as server:
                for name, bodies in _bodies(ids, condition).items():
                    script = _LOAD % ",".join(f"[[{json.dumps(body)}]]" for body in bodies)
                    machine.wrk(server.url, script, 1, 2)  # every one of them is kept from then on
                    result = machine.wrk(server.url, script, 1, 4)
                    figures.setdefault(f"{name}, {where}", {})[source] = {
                        key: result[key] for key in ("p50_ms", "p99_ms", "failed")
                    }
                    print(where, source, name, json.dumps(result), flush=True)
    return figures


def _bodies(ids: np.ndarray[Any, Any], condition: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    rng = np.random.default_rng(7)

    def recommend(seeds: int, **more: Any) -> list[dict[str, Any]]:
        return [
            {"positive": rng.choice(ids, seeds, replace=False).tolist(), "timeout_ms": 60_000, **more}
            for _ in range(_DIFFERENT)
        ]

    half = {"filter": {"must": [condition]}}
    return {
        "1 seed": recommend(1),
        "1 seed, filter": recommend(1, **half),
        "1 seed, diversity": recommend(1, diversity=0.5),
        "20 seeds": recommend(20),
        "20 seeds, filter": recommend(20, **half),
        "20 seeds, diversity": recommend(20, diversity=0.5),
        "100 seeds": recommend(100),
    }
