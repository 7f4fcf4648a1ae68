"""simshard against what people would use instead, one after the other on the same cores, with the same requests."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from benchmarks import agreement, charts, load, machine, questions, record, reference, report
from benchmarks.contenders import Contender, Floor, Rival, Simshard, Site, choose, running
from benchmarks.load import Figures
from simshard.serve.launch.redis_server import find_server
from simshard.shards.store import Store

POOL = 200  # seeds in use: those of which Redis holds the full rows
SIMILAR_RATES = (500, 1000)
RECOMMEND_RATES = (100, 200)
SWITCH_RATE = 500
GROWTH = 0.1
_KEPT_UP = 0.95  # of a rate


def contest(folder: Path, scale: float, seconds: float, names: Sequence[str], target: Path) -> record.Result:
    """Everything; written to `target` after each contender, so that a fault leaves those before it."""
    chosen = choose(names)
    items = reference.scaled(scale)
    store = reference.write_store(folder / "reference", items)
    pool = np.random.default_rng(9).choice(items, POOL, replace=False).tolist()
    site = Site(folder, store, items, pool)
    choices = {"uniform": load.Choice(items, zipf=False), "zipf": load.Choice(items, zipf=True)}
    figures: Figures = {
        "scale": scale,
        "items": items,
        "pairs": store.manifest().pairs,
        "bytes": store.manifest().total_bytes,
        "seconds_per_run": seconds,
        "versions": versions(),
        "contenders": {},
    }
    size = {**record.size(store), "seconds_per_run": seconds, "contenders": len(chosen)}
    runs = _Runs(site, seconds, choices)
    try:
        for key, contender in chosen.items():
            print(f"{contender.name} ({contender.about})", flush=True)
            if key == "simshard":
                reference.drop_pages(store)  # the first start is one from the disk
            with running(contender, site):
                figures["contenders"][key] = runs.measure(contender)
                if key == "simshard-nocache" and isinstance(contender, Simshard):
                    figures["bulk"] = questions.bulk(contender, list(range(items)))
                    figures["switch"] = runs.switch(contender)
            if "redis" in site.shared:
                figures["redis_memory_mb"] = site.shared["redis"].memory_mb
                if not any(other.startswith("redis") for other in list(chosen)[list(chosen).index(key) + 1 :]):
                    site.shared.pop("redis").stop()
            record.write(target, record.Result(size, figures))
        if "simshard-nocache" in chosen:
            figures["growth"] = runs.growth(scale)
    finally:
        if "redis" in site.shared:
            site.shared.pop("redis").stop()
    return record.Result(size, figures)


def check_tools(names: Sequence[str]) -> None:
    """Raise SystemExit, saying what to do, where something is not there that these contenders need."""
    chosen = choose(names)
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is needed for the contest (on Debian: apt-get install wrk)")
    needed = {"matplotlib"} | {each.app.removesuffix("_app") for each in chosen.values() if isinstance(each, Rival)}
    if "redis" in needed:
        needed.add("hiredis")  # the client that its makers advise; without it this rival would be a third slower
    lacking = sorted(name for name in needed if find_spec(name) is None)
    if lacking:
        raise SystemExit(
            f"{', '.join(lacking)} is needed for the contest: pip install 'simshard[bench]', or `make bench`"
        )


def publish(results: Path) -> str:
    """The contest's JSON file as Markdown, and charts, written beside it; the Markdown."""
    told = json.loads(results.read_text())
    text = report.report(told)
    results.with_suffix(".md").write_text(text, encoding="utf-8")
    charts.draw(told, results.parent)
    return text


def versions() -> dict[str, str]:
    """Versions of all that takes part."""
    found = {}
    for name in ("fastapi", "uvicorn", "uvloop", "httptools", "starlette", "redis", "hiredis", "faiss-cpu", "h5py"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    binary = find_server().binary
    commands = {"redis-server": [binary.path, "--version"] if binary else None, "wrk": ["wrk", "--version"]}
    for name, command in commands.items():
        told = "not installed"
        if command is not None:  # wrk tells its version and fails
            told = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        found[name] = told.partition("\n")[0].strip()
    return found


class _Runs:
    """What is asked of each contender."""

    def __init__(self, site: Site, seconds: float, choices: dict[str, load.Choice]) -> None:
        self.site, self.seconds, self.choices = site, seconds, choices
        self.seed = 100

    def _next(self) -> int:
        """Another seed for each run, so that none repeats the requests of one before it."""
        self.seed += 1
        return self.seed

    def measure(self, contender: Contender) -> Figures:
        """Start, agreement, memory, closed loops, open loops."""
        self.seed = 100  # the same requests for each contender
        figures: Figures = {"name": contender.name, "about": contender.about, "started_s": contender.started_s}
        figures["private_mb_at_start"] = contender.memory()
        figures["agreement"] = agreement.check(contender, self.site) if not isinstance(contender, Floor) else None
        figures["closed"] = closed = {}
        for name, choice in self.choices.items():
            table = self.site.folder / f"{name}.txt"
            closed[f"similar, {name}"] = self._closed(contender, lambda c=choice, t=table: c.script(t, self._next()))
        pool = self.site.folder / "pool.txt"
        closed["20 seeds"] = self._closed(contender, lambda: load.recommend_script(self.site.pool, pool, self._next()))
        figures["open"] = self._opened(contender)
        figures["private_mb_after"] = contender.memory()
        return figures

    def _closed(self, contender: Contender, script: Any) -> Figures:
        figures: Figures = {}
        load.settle(contender.kinds)
        machine.wrk(contender.url, script(), 8, max(self.seconds / 4, 1))
        for connections in load.CONNECTIONS:
            load.settle(contender.kinds)
            figures[str(connections)] = load.closed_loop(
                contender.url, script(), connections, self.seconds, contender.kinds
            )
            print(f"  {connections} connections: {json.dumps(figures[str(connections)])}", flush=True)
        return figures

    def _opened(self, contender: Contender) -> Figures:
        figures: Figures = {"similar": self._rates(contender, SIMILAR_RATES, self._similar)}
        figures["20 seeds"] = self._rates(contender, RECOMMEND_RATES, self._seeds)
        if contender.any_seeds:
            figures["20 seeds of all items"] = self._rates(contender, RECOMMEND_RATES, self._any_seeds)
        return figures

    def _similar(self, count: int) -> list[bytes]:
        return [load.similar_request(item) for item in self.choices["uniform"].draw(count, self._next()).tolist()]

    def _seeds(self, count: int) -> list[bytes]:
        return load.seed_requests(self.site.pool, count, self._next())

    def _any_seeds(self, count: int) -> list[bytes]:
        return load.seed_requests(list(range(self.site.items)), count, self._next())

    def _rates(self, contender: Contender, rates: Sequence[int], requests: Any) -> Figures:
        figures: Figures = {}
        for rate in rates:
            asked = requests(round(rate * self.seconds))
            lower = next(
                (each for each in figures.values() if each.get("achieved_per_s", 0) < _KEPT_UP * each["rate"]), None
            )
            if lower is not None:
                figures[str(rate)] = {"rate": rate, "skipped": f"{lower['rate']:.0f}/s was too much"}
                continue
            load.settle(contender.kinds)
            figures[str(rate)] = load.open_loop(contender.url, asked, rate, self.site.folder / "requests")
            print(f"  {rate}/s: {json.dumps(figures[str(rate)])}", flush=True)
        return figures

    def switch(self, contender: Simshard) -> Figures:
        """The same load without and with a switch to another snapshot in its middle: latencies, failures, how long."""
        figures: Figures = {}
        store = self.site.store
        old = store.resolve()
        new = _copy(store)
        count = round(SWITCH_RATE * max(self.seconds * 2, 20))
        took: list[float] = []

        def act() -> None:
            time.sleep(3)
            begun = time.monotonic()
            store.activate(new)
            while time.monotonic() - begun < 120:
                if httpx.get(f"{contender.url}/v1/items/0/similar").headers["x-snapshot"] == new:
                    took.append(round(time.monotonic() - begun, 1))
                    return
                time.sleep(0.2)

        for name, other in (("without", None), ("with", threading.Thread(target=act))):
            load.settle(contender.kinds)
            if other is not None:
                other.start()
            requests = self._similar(count)
            figures[name] = load.open_loop(contender.url, requests, SWITCH_RATE, self.site.folder / "requests")
            if other is not None:
                other.join()
        store.activate(old)
        return {**figures, "switched_after_s": took[0] if took else None}

    def growth(self, scale: float) -> Figures:
        """`similar` at one connection, nothing cached, with a tenth of the pairs and with all, one after the other."""
        items = reference.scaled(scale * GROWTH)
        small = reference.write_store(self.site.folder / "tenth", items)
        figures: Figures = {}
        for store in (small, self.site.store):
            manifest = store.manifest()
            contender = Simshard("growth", "", "--cache", "0", "--redis", "off", store=store)
            choice = load.Choice(manifest.items, zipf=False)
            script = choice.script(self.site.folder / f"growth-{manifest.items}.txt", 7)
            with running(contender, self.site):
                machine.wrk(contender.url, script, 8, max(self.seconds / 4, 1))
                load.settle(contender.kinds)
                figures[str(manifest.pairs)] = machine.wrk(contender.url, script, 1, self.seconds)
        return figures


def _copy(store: Store) -> str:
    """Another snapshot of the same files, hard links to them; not active."""
    manifest = store.manifest()
    with store.stage() as staging:
        for path in (store.snapshots / manifest.name).iterdir():
            if path.suffix == ".arrow":
                (staging.folder / path.name).hardlink_to(path)
        staging.publish(replace(manifest, name=staging.name))
        return staging.name
