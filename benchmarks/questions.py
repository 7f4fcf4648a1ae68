"""What people ask, measured on the full matrix of the real titles: filters, seeds, diversity, rank, batch, bulk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from benchmarks import anime, machine, record
from simshard.shards import query, search
from simshard.shards.format import ShardReader
from simshard.shards.query import Query, Selection, rounding_for
from simshard.shards.store import Snapshot, Store

Figures = dict[str, Any]

FRACTIONS = {"50 %": 0.5, "1 %": 0.01, "0.01 %": 0.0001}
_BULK = 50_000

_POST = """
math.randomseed(7)
local headers = {["content-type"] = "application/json"}
local function ids(count)
  local seen, found = {}, {}
  while #found < count do
    local id = IDS[math.random(#IDS)]
    if not seen[id] then seen[id] = true; found[#found + 1] = id end
  end
  return table.concat(found, ",")
end
request = function() return wrk.format("POST", "PATH", headers, BODY) end
"""


class Asked(Protocol):
    """A server: its `url`, and the `address` of its Ray cluster."""

    url: str
    address: str


def build(folder: Path, titles: anime.Titles) -> Store:
    """The store: all pairs by genres, score and episodes; `pick` numbers the titles at random."""
    picks = np.random.default_rng(0).permutation(len(titles.ids)).tolist()
    columns = (titles.ids, titles.titles, picks, titles.genres, titles.scores, titles.episodes)
    names = ("id", "title", "pick", "genres", "score", "episodes")
    with open(folder / "titles.ndjson", "w", encoding="utf-8") as file:
        for values in zip(*columns, strict=True):
            item = {name: value for name, value in zip(names, values, strict=True) if value not in (None, [])}
            file.write(json.dumps(item) + "\n")
    features = ("--feature", "genres:set", "--feature", "score:number", "--feature", "episodes:number")
    machine.run("compute", folder / "titles.ndjson", "--store", folder / "titles", *features)
    return Store(folder / "titles")


def bodies(items: int, high: float = 8) -> dict[str, tuple[str, str]]:
    """Path and Lua expression of the body for each kind of question."""

    def recommend(seeds: int, more: str = "") -> tuple[str, str]:
        return "/v1/recommend", f"""'{{"positive":[' .. ids({seeds}) .. ']{more}}}'"""

    def lasting(fraction: float) -> str:
        pick = {"key": "pick", "range": {"lt": round(items * fraction)}}
        return ',"filter":' + json.dumps({"must": [pick]})

    found = {"1 seed": recommend(1), "20 seeds": recommend(20)}
    for seeds in (1, 20):
        word = "seed" if seeds == 1 else "seeds"
        for name, fraction in FRACTIONS.items():
            found[f"{seeds} {word}, filter leaving {name}"] = recommend(seeds, lasting(fraction))
        found[f"{seeds} {word}, diversity"] = recommend(seeds, ',"diversity":0.5')
    found["20 seeds, diversity, limit 100"] = recommend(20, ',"diversity":0.5,"limit":100')
    found["20 seeds, boost"] = recommend(
        20, f',"boost":[{{"filter":{{"must":[{{"key":"score","range":{{"gte":{high:g}}}}}]}},"factor":2}}]'
    )
    found["20 seeds, group_by"] = recommend(20, ',"group_by":"episodes"')
    found["20 seeds, explain"] = recommend(20, ',"explain":true')
    rank = """'{"positive":[' .. ids(20) .. '],"candidates":[' .. ids(1000) .. ']}'"""
    found["20 seeds, rank of 1,000"] = ("/v1/rank", rank)
    found["the same, without payload"] = ("/v1/rank", rank.replace("]}", '],"with_payload":false}'))
    for seeds in (1, 20):
        one = f"""'{{"positive":[' .. ids({seeds}) .. ']}}'"""
        many = f"(function() local t = {{}}; for i = 1, 100 do t[i] = {one} end; return table.concat(t, ',') end)()"
        word = "seed" if seeds == 1 else "seeds"
        found[f"batch of 100 with {seeds} {word}"] = ("/v1/recommend/batch", f"""'{{"requests":[' .. {many} .. ']}}'""")
    return found


def over_http(store: Store, titles: anime.Titles) -> Figures:
    """Each kind of question at one connection, nothing cached: requests/s, p50 and p99; then bulk."""
    figures: Figures = {}
    ids = titles.ids
    options = ("--cache", "0", "--redis", "off", "--name", "bench")
    with machine.Server(store.root, *options) as server:
        for name, (path, body) in bodies(len(ids), titles.high).items():
            script = f"local IDS = {{{','.join(map(str, ids))}}}\n{_POST.replace('PATH', path).replace('BODY', body)}"
            machine.wrk(server.url, script, 1, 2)
            figures[name] = machine.wrk(server.url, script, 1, 6)
            print(name, json.dumps(figures[name]), flush=True)
        figures["bulk"] = bulk(server, ids)
        print("bulk", json.dumps(figures["bulk"]), flush=True)
        figures["private_mb_after"] = server.memory()
    return figures


def bulk(server: Asked, ids: list[int]) -> Figures:
    """`similar_many` of an array of 50,000 ids at limit 10, over HTTP and over a handle from another job: items/s."""
    program = """
import json, sys, time
import numpy as np
from simshard.serve.client import Client
where, ids = sys.argv[1], np.array(json.loads(sys.stdin.read()))
client = Client(where) if where.startswith("http") else Client.from_app("bench", address=where)
taken = []
for _ in range(100):
    begun = time.perf_counter()
    assert client.similar_many(ids, limit=10).num_rows > 9 * len(ids)
    taken.append(time.perf_counter() - begun)
print(json.dumps(sorted(taken)))
"""
    chosen = np.random.default_rng(1).choice(ids, _BULK).tolist()
    figures: Figures = {}
    for name, where in (("HTTP", server.url), ("handle", server.address)):
        taken = json.loads(machine.python(program, where, stdin=json.dumps(chosen)).splitlines()[-1])
        median, slowest = taken[len(taken) // 2], taken[-1]
        figures[name] = {
            "items_per_s": round(_BULK / median),
            "median_ms": round(median * 1e3, 1),
            "slowest_ms": round(slowest * 1e3, 1),
        }
    return figures


def _microseconds(work: Callable[[int], Any]) -> float:
    """The median of 60 calls with other numbers."""
    taken = []
    for i in range(70):
        begun = time.perf_counter()
        work(i)
        taken.append(time.perf_counter() - begun)
    return round(float(np.median(taken[10:])) * 1e6)


def ways(store: Store) -> Figures:
    """Candidates alone against whole rows, by what a filter leaves: microseconds of one shard's search, in process."""
    snapshot = Snapshot(store)
    items = snapshot.manifest.items
    reader = ShardReader(snapshot.folder, snapshot.manifest, 0)
    rows = np.random.default_rng(2).integers(reader.row_start, reader.row_stop, (70, 20)).astype(np.uint32)
    figures: Figures = {}
    for row in np.unique(rows).tolist():  # no page is cold when the first way is measured
        reader.full(row)[0].sum()
    for fraction in (0.0001, 0.01, 0.04, 0.1, 0.2, 0.33, 0.5, 0.75, 1.0):
        mask = np.random.default_rng(3).permutation(items) < max(round(items * fraction), 1)
        few, many = Selection(mask), Selection(mask)
        few.rows, many.rows = np.flatnonzero(mask).astype(np.uint32), None
        line: Figures = {}
        for seeds in (1, 20):
            weights = np.ones(seeds)
            for name, selection in (("candidates", few), ("whole rows", many)):

                def ask(i: int, selection: Selection = selection, weights: Any = weights, seeds: int = seeds) -> Any:
                    negative = np.zeros(seeds, dtype=np.bool_)
                    seed_rows = rows[i, :seeds]
                    exclude = np.sort(seed_rows)
                    asked = Query(
                        seed_rows,
                        weights,
                        negative,
                        exclude,
                        10,
                        rounding=rounding_for(weights, 1.0),
                        selection=selection,
                    )
                    return query.truncate(search.partial(reader, asked), asked)

                line[f"{seeds}, {name}"] = _microseconds(ask)

            def walk(i: int, selection: Selection = many) -> Any:
                nothing = np.zeros(1, dtype=np.bool_)
                asked = Query(rows[i, :1], np.ones(1), nothing, rows[i, :1], 10, selection=selection)
                return search.search_top(reader, asked)

        line["1, stored best"] = _microseconds(walk) if walk(0) is not None else None
        figures[f"{fraction:.2%}"] = line
        print(f"{fraction:.2%}", line, flush=True)
    return figures


def questions(folder: Path, titles: anime.Titles) -> record.Result:
    """All of it."""
    store = build(folder, titles)
    figures = {"ways to filter, us": ways(store), "over HTTP, 1 connection": over_http(store, titles)}
    return record.Result({**record.size(store), "replicas": 1}, figures)
