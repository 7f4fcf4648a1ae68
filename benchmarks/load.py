"""Load for the contest: the same requests for each contender, by wrk in a closed loop or at a fixed rate."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks import machine

Figures = dict[str, Any]
CONNECTIONS = (1, 8, 32)
SEEDS = 20
OPEN_CONNECTIONS = 32
GRACE = 4.0  # seconds that an open loop waits for answers beyond its end

# Picks from an alias table: a place at random, then its own item or the other one, by its share.
_SIMILAR = """
local own, other, share = {}, {}, {}
for line in io.lines(%s) do
  local a, b, s = line:match("(%%S+) (%%S+) (%%S+)")
  own[#own + 1], other[#other + 1], share[#share + 1] = a, b, tonumber(s)
end
math.randomseed(%d)
request = function()
  local place = math.random(#own)
  local item = math.random() < share[place] and own[place] or other[place]
  return wrk.format("GET", "/v1/items/" .. item .. "/similar")
end
"""
_RECOMMEND = """
local pool = {}
for line in io.lines(%s) do pool[#pool + 1] = line end
math.randomseed(%d)
local headers = {["content-type"] = "application/json"}
request = function()
  for i = 1, %d do
    local j = math.random(i, #pool)
    pool[i], pool[j] = pool[j], pool[i]
  end
  return wrk.format("POST", "/v1/recommend", headers, '{"positive":[' .. table.concat(pool, ",", 1, %d) .. "]}")
end
"""


class Choice:
    """Which items requests name: uniform, or Zipf (the r-th most popular 1/r as often as the first) over a fixed order.

    An alias table (Walker, Vose): `own`, `other` (N,) and the share of `own` at each place, float64 (N,).
    """

    def __init__(self, items: int, zipf: bool) -> None:
        rng = np.random.default_rng(11)
        self.own = rng.permutation(items)
        odds = 1.0 / np.arange(1, items + 1) if zipf else np.ones(items)
        self.share = odds * (items / odds.sum())
        self.other = self.own.copy()
        small = [place for place in range(items) if self.share[place] < 1]
        large = [place for place in range(items) if self.share[place] >= 1]
        while small and large:
            place, giver = small.pop(), large[-1]
            self.other[place] = self.own[giver]
            self.share[giver] -= 1 - self.share[place]
            if self.share[giver] < 1:
                small.append(large.pop())
        self.share[[*small, *large]] = 1.0

    def draw(self, count: int, seed: int) -> NDArray[np.int64]:
        """So many items (count,)."""
        rng = np.random.default_rng(seed)
        places = rng.integers(0, len(self.own), count)
        return np.where(rng.random(count) < self.share[places], self.own[places], self.other[places])

    def script(self, file: Path, seed: int) -> str:
        """Lua for wrk that asks `similar` so; the table is written to the file."""
        if not file.exists():
            lines = zip(self.own.tolist(), self.other.tolist(), self.share.tolist(), strict=True)
            file.write_text("".join(f"{own} {other} {share:.9f}\n" for own, other, share in lines))
        return _SIMILAR % (json.dumps(str(file)), seed)


def recommend_script(pool: list[int], file: Path, seed: int) -> str:
    """Lua for wrk that recommends for 20 different seeds of the pool, which is written to the file."""
    file.write_text("".join(f"{item}\n" for item in pool))
    return _RECOMMEND % (json.dumps(str(file)), seed, SEEDS, SEEDS)


def similar_request(item: int) -> bytes:
    """The request for one item, as it goes over the wire."""
    return f"GET /v1/items/{item}/similar HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".encode()


def recommend_request(seeds: list[int]) -> bytes:
    """The request for many seeds, as it goes over the wire."""
    body = json.dumps({"positive": seeds}, separators=(",", ":"))
    head = "POST /v1/recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


def seed_requests(pool: list[int], count: int, seed: int) -> list[bytes]:
    """So many requests for 20 different seeds of the pool each."""
    rng = np.random.default_rng(seed)
    return [recommend_request(rng.choice(pool, SEEDS, replace=False).tolist()) for _ in range(count)]


def open_loop(url: str, requests: list[bytes], rate: float, file: Path) -> Figures:
    """What a generator in a process of its own measures; the requests, one after the other at that rate, go by file."""
    port = int(url.rpartition(":")[2])
    file.write_bytes(b"\0".join(requests))
    arguments = [str(port), str(rate), str(OPEN_CONNECTIONS), str(GRACE), str(file)]
    command = [sys.executable, "-m", "benchmarks.open_loop", *arguments]
    told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]).stdout
    figures: Figures = json.loads(told)
    return figures


Processes = Callable[[], dict[psutil.Process, str]]


def cpu_seconds(processes: Processes) -> dict[psutil.Process, tuple[str, float]]:
    """Kind and CPU seconds so far, user and system, of each process."""
    found = {}
    for process, kind in processes().items():
        try:
            times = process.cpu_times()
        except psutil.Error:
            continue
        found[process] = (kind, times.user + times.system)
    return found


def settle(processes: Processes, most: float = 30.0) -> None:
    """Wait until the processes are at rest: nothing that was asked before is measured with what comes next."""
    deadline = time.monotonic() + most
    while time.monotonic() < deadline:
        before = sum(seconds for _, seconds in cpu_seconds(processes).values())
        time.sleep(0.5)
        if sum(seconds for _, seconds in cpu_seconds(processes).values()) - before < 0.2:
            return


def closed_loop(url: str, script: str, connections: int, seconds: float, processes: Processes) -> Figures:
    """What wrk measures, and the CPU microseconds of each kind of process, wrk's own among them, for each request."""
    before, own = cpu_seconds(processes), resource.getrusage(resource.RUSAGE_CHILDREN)
    figures: Figures = machine.wrk(url, script, connections, seconds)
    after, used = cpu_seconds(processes), resource.getrusage(resource.RUSAGE_CHILDREN)
    spent: dict[str, float] = {"wrk": used.ru_utime + used.ru_stime - own.ru_utime - own.ru_stime}
    for process, (kind, total) in after.items():
        spent[kind] = spent.get(kind, 0.0) + total - before.get(process, (kind, 0.0))[1]
    requests = max(figures["requests"], 1)
    figures["cpu_us_per_request"] = {kind: round(total / requests * 1e6, 1) for kind, total in sorted(spent.items())}
    return figures
