"""What is measured on, and with: machine details, private memory of process trees, wrk."""

from __future__ import annotations

import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil

_WRK_DONE = """
done = function(summary, latency, requests)
  local errors = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  print(string.format('RESULT {"requests": %d, "requests_per_s": %.1f, "p50_ms": %.3f, "p99_ms": %.3f, "failed": %d}',
    summary.requests, summary.requests / (summary.duration / 1e6), latency:percentile(50) / 1e3,
    latency:percentile(99) / 1e3, errors + summary.errors.status))
end
"""


def details() -> dict[str, Any]:
    """The machine and the versions of what matters."""
    model = re.search(r"model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text())
    return {
        "cpu": model[1] if model else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("simshard", "ray", "numpy", "pyarrow", "ijson", "msgspec", "redis")},
    }


def private_mb(process: psutil.Process) -> float:
    """Anonymous memory of one process in MB; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^Anonymous:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


class PeakMemory:
    """Samples the private memory of a process and its children, every 50 ms; `peak_mb` over all of them together."""

    def __init__(self, pid: int) -> None:
        self.peak_mb = 0.0
        self._root = psutil.Process(pid)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(0.05):
            try:
                tree = [self._root, *self._root.children(recursive=True)]
            except psutil.Error:
                return
            self.peak_mb = max(self.peak_mb, sum(map(private_mb, tree)))


class Run(NamedTuple):
    """A finished command: wall, user and system seconds and peak private MB of it and its workers, its stdout."""

    seconds: float
    user_seconds: float
    system_seconds: float
    peak_mb: float
    output: str


def run(*arguments: str | Path) -> Run:
    """Run `simshard` with these arguments to its end. Raises SystemExit where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    command = [Path(sys.executable).with_name("simshard"), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    with PeakMemory(process.pid) as memory:
        output, errors = process.communicate()
    seconds = time.perf_counter() - begun
    if process.returncode:
        raise SystemExit(errors)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
    return Run(seconds, user, system, memory.peak_mb, output)


def python(program: str, *arguments: str, stdin: str = "") -> str:
    """What a Python program prints that runs in a process of its own. Raises CalledProcessError where it fails."""
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, input=stdin, check=True, stdout=subprocess.PIPE, text=True).stdout


def wrk(url: str, script: str, connections: int, seconds: float = 8.0) -> dict[str, float]:
    """Closed-loop load; `script` is Lua that sets `request`. Raises SystemExit where there is no wrk."""
    binary = shutil.which("wrk")
    if binary is None:
        raise SystemExit("wrk is needed for this benchmark (on Debian: apt-get install wrk)")
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        file.write(script + _WRK_DONE)
        file.flush()
        arguments = ["-t1", f"-c{connections}", f"-d{seconds:.0f}s", "--timeout", "30s", "-s", file.name, url]
        told = subprocess.run([binary, *arguments], check=True, capture_output=True, text=True).stdout
    result: dict[str, float] = json.loads(told.partition("RESULT ")[2])
    return result


@contextmanager
def scratch(gigabytes: float) -> Iterator[Path]:
    """A temporary folder with that much free space, removed afterwards. Raises SystemExit where there is too little."""
    folder = Path(tempfile.mkdtemp(prefix="simshard-bench-"))
    try:
        free = shutil.disk_usage(folder).free / 2**30
        if free < gigabytes + 1:
            raise SystemExit(f"{gigabytes:.1f} GB are needed in {folder.parent}, {free:.1f} GB are free; set TMPDIR")
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Server:
    """A `simshard serve` process; `started_s` from the command to the first answer.

    program: a `simshard` other than this tree's.
    """

    def __init__(self, store: Path, *options: str, program: Path | None = None) -> None:
        import httpx

        from simshard.serve.launch.ports import free_port

        begun = time.monotonic()
        port = free_port()
        arguments = ["serve", "--store", str(store), "--port", str(port), *options]
        program = program or Path(sys.executable).with_name("simshard")
        # Not here: Ray's workers would import the simshard of this folder, whatever the program's is.
        self.process = subprocess.Popen([program, *arguments], cwd=store, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the server did not start")
        self.url, self.address = line.split()[0], line.split()[-1]
        httpx.get(f"{self.url}/v1/snapshots").raise_for_status()
        self.started_s = round(time.monotonic() - begun, 2)

    def memory(self) -> dict[str, float]:
        """Private MB of every process of the tree, ours by name, Ray's own and the rest together."""
        found: dict[str, float] = {}
        root = psutil.Process(self.process.pid)
        for process in [root, *root.children(recursive=True)]:
            try:
                title = " ".join(process.cmdline())
            except psutil.Error:  # gone meanwhile
                continue
            kinds = (
                "ray::ShardActor",
                "ray::ServeReplica",
                "ray::Supervisor",
                "redis-server",
                "valkey-server",
                "haproxy -",
            )
            name = next((kind.strip(" -") for kind in kinds if kind in title), "ray itself")
            if process.pid == root.pid:
                name = "simshard serve"
            while name in found and name.startswith("ray::"):
                name += "'"
            found[name] = round(found.get(name, 0.0) + private_mb(process), 1)
        return dict(sorted(found.items()))

    def cpu_s(self) -> float:
        """Seconds of user and system time that all processes of the tree have taken so far."""
        root = psutil.Process(self.process.pid)
        total = 0.0
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.Error):  # gone meanwhile
                total += sum(process.cpu_times()[:2])
        return total

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: Any) -> None:
        self.process.terminate()
        self.process.wait(60)
