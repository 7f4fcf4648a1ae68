"""What an answer costs by class of question, computed, out of memory and out of Redis: where Redis is worth asking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

from benchmarks import anime, machine, questions, record
from simshard.shards.items import Items

Figures = dict[str, Any]

_DIFFERENT = 200  # requests of a class, each asked again and again
_LOAD = """
local requests = {%s}
local turn = 0
local headers = {["content-type"] = "application/json"}
request = function()
  turn = turn %% #requests + 1
  local target, body = requests[turn][1], requests[turn][2]
  if body == "" then return wrk.format("GET", target) end
  return wrk.format("POST", target, headers, body)
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


def classes(folder: Path, titles: anime.Titles) -> record.Result:
    """Milliseconds, p50 and p99 of one connection, by class and by where the answer comes from."""
    store = questions.build(folder, titles)
    items = Items(store.snapshots / store.resolve())
    ids = items.ids.to_numpy()
    half = {"must": [{"key": "pick", "range": {"lt": len(items) // 2}}]}
    figures: Figures = {}
    for where, kinds in {"local": _LOCAL, "remote": _REMOTE}.items():
        for source, options in kinds.items():
            with machine.Server(store.root, *options) as server:
                for name, asked in _classes(ids, half).items():
                    script = _LOAD % ",".join(f"{{[[{target}]], [[{body}]]}}" for target, body in asked)
                    machine.wrk(server.url, script, 1, 2)  # every one of them is kept from then on
                    result = machine.wrk(server.url, script, 1, 4)
                    figures.setdefault(f"{name}, {where}", {})[source] = {
                        key: result[key] for key in ("p50_ms", "p99_ms", "failed")
                    }
                    print(where, source, name, json.dumps(result), flush=True)
    return record.Result({**record.size(store), "replicas": 1, "requests_of_a_class": _DIFFERENT}, figures)


def _classes(ids: np.ndarray[Any, Any], half: dict[str, Any]) -> dict[str, list[tuple[str, str]]]:
    """Target and body, "" for a GET, of different requests of each class."""
    rng = np.random.default_rng(7)

    def similar(**more: Any) -> list[tuple[str, str]]:
        query = urlencode(
            {name: value if isinstance(value, str) else json.dumps(value) for name, value in more.items()}
        )
        return [(f"/v1/items/{id_}/similar?{query}", "") for id_ in rng.choice(ids, _DIFFERENT, replace=False).tolist()]

    def recommend(seeds: int, **more: Any) -> list[tuple[str, str]]:
        chosen = [rng.choice(ids, seeds, replace=False).tolist() for _ in range(_DIFFERENT)]
        return [("/v1/recommend", json.dumps({"positive": each, "timeout_ms": 60_000, **more})) for each in chosen]

    return {
        "1 item": similar(),
        "1 item, filter": similar(filter=half),
        "1 item, boost": similar(boost=[{"filter": half, "factor": 1.5}]),
        "1 item, explain": similar(explain=True),
        "1 item, group_by": similar(group_by="episodes"),
        "1 item, diversity": similar(diversity=0.5),
        "20 seeds": recommend(20),
        "20 seeds, filter": recommend(20, filter=half),
        "20 seeds, diversity": recommend(20, diversity=0.5),
        "100 seeds": recommend(100),
    }
