"""Who takes part in the contest: each starts processes of its own on the loopback interface, and ends them by pid."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from benchmarks import machine, rival_data, rivals
from simshard.serve.launch.ports import free_port
from simshard.shards.store import Store

ROOT = Path(__file__).resolve().parents[1]
_START = 180.0
_RAY_KINDS = {
    "ray::ShardActor": "shard actors",
    "ray::ServeReplica": "replicas",
    "ray::Supervisor": "supervisor",
    "haproxy -": "haproxy",
    "redis-server": "redis-server",
    "valkey-server": "redis-server",
}


@dataclass
class Site:
    """What contenders share: a scratch folder, the store and its items, the seeds in use, and simshard's answer, taken
    when it first ran, which the floor repeats.
    """

    folder: Path
    store: Store
    items: int
    pool: list[int]
    sample: dict[str, Any] | None = None
    shared: dict[str, Any] = field(default_factory=dict)


class Contender:
    """One of them, running between `with`: `url`, `started_s` from its command to its first answer.

    exact: whether it answers from the reference's scores, so that its hits must be simshard's. any_seeds: whether it
    can be asked for any seeds, not only those of the pool.
    """

    exact = True
    any_seeds = True

    def __init__(self, name: str, about: str) -> None:
        self.name, self.about = name, about
        self.process: subprocess.Popen[str] | None = None
        self.url = ""
        self.log: Path | None = None
        self.started_s = 0.0

    def start(self, site: Site) -> None:
        """Start, and wait for the first answer."""
        raise NotImplementedError

    def kinds(self) -> dict[psutil.Process, str]:
        """Every process of it that lives, with what it is counted as."""
        return {process: self.kind(process) for process in tree(self.process)}

    def kind(self, process: psutil.Process) -> str:
        """What a process is counted as."""
        return "uvicorn"

    def memory(self) -> dict[str, float]:
        """Private MB by kind of process."""
        found: dict[str, float] = {}
        for process, kind in self.kinds().items():
            found[kind] = round(found.get(kind, 0.0) + machine.private_mb(process), 1)
        return dict(sorted(found.items()))

    def stop(self) -> None:
        """End what was started."""
        if self.process is None:
            return
        below = tree(self.process)[1:]
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
        if self.process.poll() is None:
            self.process.kill()
        for left in psutil.wait_procs(below, 10)[1]:
            with suppress(psutil.Error):
                left.kill()
        self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.process = None

    def _wait(self, begun: float) -> None:
        """Until it answers. Raises SystemExit where it does not."""
        assert self.process is not None
        last = ""
        while time.monotonic() - begun < _START and self.process.poll() is None:
            try:
                answer = httpx.get(f"{self.url}/v1/items/0/similar", timeout=10)
                if answer.status_code == 200:
                    self.started_s = round(time.monotonic() - begun, 2)
                    return
                last = answer.text[:200]
            except httpx.HTTPError as error:
                last = str(error)
            time.sleep(0.05)
        self.stop()
        told = self.log.read_text()[-2000:] if self.log else last
        raise SystemExit(f"{self.name} did not start: {told}")


def tree(process: subprocess.Popen[str] | None) -> list[psutil.Process]:
    """A process and all below it that live, itself first."""
    if process is None:
        return []
    try:
        root = psutil.Process(process.pid)
        return [root, *root.children(recursive=True)]
    except psutil.Error:
        return []


def ray_kind(process: psutil.Process, root: int) -> str:
    """What a process of a Ray tree is counted as."""
    if process.pid == root:
        return "driver"
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        title = ""
    return next((kind for part, kind in _RAY_KINDS.items() if part in title), "Ray's own")


class Simshard(Contender):
    """`simshard serve` with some flags."""

    def __init__(self, name: str, about: str, *options: str, store: Store | None = None) -> None:
        super().__init__(name, about)
        self.options, self.store = options, store
        self.address = ""

    def start(self, site: Site) -> None:
        server = machine.Server((self.store or site.store).root, "--name", "bench", *self.options)
        self.process, self.url, self.started_s = server.process, server.url, server.started_s
        self.address = server.address
        if site.sample is None:
            answer = httpx.get(f"{self.url}/v1/items/{site.pool[0]}/similar").raise_for_status()
            headers = [[name.lower(), value] for name, value in answer.headers.multi_items()]
            site.sample = {"headers": headers, "body": answer.text}

    def kind(self, process: psutil.Process) -> str:
        return ray_kind(process, self.process.pid if self.process else 0)


class Floor(Contender):
    """An empty Ray Serve deployment that answers every request with simshard's headers and bytes."""

    exact = False

    def __init__(self, name: str, about: str, replicas: int) -> None:
        super().__init__(name, about)
        self.replicas = replicas

    def start(self, site: Site) -> None:
        if site.sample is None:
            with running(Simshard("sample", ""), site):
                pass
        assert site.sample is not None
        sample = site.folder / "sample.json"
        sample.write_text(json.dumps(site.sample))
        port = free_port()
        begun = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.floor", str(sample), str(port), str(self.replicas)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, text=True, cwd=ROOT)
        self.url = f"http://127.0.0.1:{port}"
        self._wait(begun)
        answer = httpx.get(f"{self.url}/v1/items/0/similar")
        counts = len(answer.headers.multi_items()), len(site.sample["headers"])
        if answer.text != site.sample["body"] or counts[0] != counts[1]:
            names = sorted(answer.headers.keys()), sorted(name for name, _ in site.sample["headers"])
            print(f"{self.name}: its answer differs from simshard's: {len(answer.content)} bytes, headers {names}")

    def kind(self, process: psutil.Process) -> str:
        return ray_kind(process, self.process.pid if self.process else 0)


class Rival(Contender):
    """A FastAPI application of `rivals` under uvicorn; what it needs is prepared on first use, and shared."""

    def __init__(
        self, name: str, about: str, app: str, prepare: Callable[[Site], dict[str, str]], workers: int = 1
    ) -> None:
        super().__init__(name, about)
        self.app, self.prepare, self.workers = app, prepare, workers
        self.exact = app != "faiss_app"
        self.any_seeds = app != "redis_app"
        self.site: Site | None = None

    def start(self, site: Site) -> None:
        self.site = site
        settings = self.prepare(site)
        port = free_port()
        options = ["--host", "127.0.0.1", "--port", str(port), "--workers", str(self.workers), "--no-access-log"]
        command = [sys.executable, "-m", "uvicorn", f"benchmarks.rivals:{self.app}", "--factory", *options]
        environment = {**os.environ, rivals.SETTINGS: json.dumps(settings)}
        self.log = site.folder / f"{self.app}.log"
        begun = time.monotonic()
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*command, "--log-level", "warning"], text=True, cwd=ROOT, env=environment, stdout=log, stderr=log
            )
        self.url = f"http://127.0.0.1:{port}"
        self._wait(begun)

    def kinds(self) -> dict[psutil.Process, str]:
        found = super().kinds()
        data = self.site.shared.get("redis") if self.site and self.app == "redis_app" else None
        if data is not None:
            found |= dict.fromkeys(tree(data.server.process), "redis-server")
        return found


class running:  # noqa: N801 - reads as a word: with running(contender, site)
    """A contender, started, and ended whatever happens."""

    def __init__(self, contender: Contender, site: Site) -> None:
        self.contender, self.site = contender, site

    def __enter__(self) -> Contender:
        try:
            self.contender.start(self.site)
        except BaseException:
            self.contender.stop()
            raise
        return self.contender

    def __exit__(self, *_: Any) -> None:
        self.contender.stop()


def _redis(site: Site) -> dict[str, str]:
    if "redis" not in site.shared:
        site.shared["redis"] = rival_data.RedisData(site.folder, site.items, site.pool)
    return {"redis": site.shared["redis"].server.url}


def _faiss(site: Site) -> dict[str, str]:
    return rival_data.write_vectors(site.folder, site.items)


def _h5py(site: Site) -> dict[str, str]:
    return rival_data.write_matrix(site.folder, site.items)


_NO_REDIS = ("--redis", "off")
_NOTHING = ("--cache", "0", *_NO_REDIS)


def contenders() -> dict[str, Contender]:
    """All of them, in the order in which they run, by the names that `--contenders` takes."""
    redis = "best 256 of each item and the full rows of the seeds in use as sorted sets; unix socket"
    return {
        "simshard": Simshard("simshard", "in-process cache, 1 replica", *_NO_REDIS),
        "simshard-nocache": Simshard("simshard, no cache", "1 replica", *_NOTHING),
        "simshard-redis": Simshard(
            "simshard, Redis only", "1 replica", "--cache", "0", "--redis-classes", "similar,recommend"
        ),
        "simshard-actors": Simshard(
            "simshard, actor transport", "no cache, 1 replica", *_NOTHING, "--transport", "actor"
        ),
        "simshard-2": Simshard("simshard, no cache, 2 replicas", "2 replicas", *_NOTHING, "--replicas", "2"),
        "floor": Floor("empty Ray Serve deployment", "answers simshard's bytes, 1 replica", 1),
        "floor-2": Floor("empty Ray Serve deployment, 2 replicas", "answers simshard's bytes", 2),
        "redis": Rival("FastAPI + Redis, 1 worker", redis, "redis_app", _redis),
        "redis-2": Rival("FastAPI + Redis, 2 workers", redis, "redis_app", _redis, 2),
        "faiss": Rival(
            "FastAPI + FAISS flat", "inner products of random vectors of 128: other scores", "faiss_app", _faiss
        ),
        "h5py": Rival("FastAPI + h5py", "dense matrix in an HDF5 file, float32, contiguous", "h5py_app", _h5py),
    }


def choose(names: Sequence[str]) -> dict[str, Contender]:
    """Those of these names, all for none, in their order. Raises SystemExit for one that is none."""
    known = contenders()
    unknown = set(names) - set(known)
    if unknown:
        raise SystemExit(f"no contender {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return {name: each for name, each in known.items() if not names or name in names}
