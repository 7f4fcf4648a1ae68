"""The commands of docs/deploy.md for a cluster of machines, word for word, on hosts out of namespaces; timed.

    python -m tests.support.cluster_run --runs 5        # what `make cluster-test` does
    python -m tests.support.cluster_run --prepared      # once, with environments that are filled beforehand: for CI

A fourth host is the machine of whoever does this: it holds the key, the token and the wheelhouse, and asks questions.
"""

import argparse
import json
import os
import pty
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

from benchmarks import record
from simshard.shards.store import Store
from tests.support import oracle
from tests.support.builder import read_matrix
from tests.support.hosts import Hosts, cannot, cannot_ssh

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ITEMS = 400
_LONGEST = 600.0


def commands():
    """The commands of the page's block for a cluster, by their first words."""
    page = (ROOT / "docs/deploy.md").read_text(encoding="utf-8")
    block = re.search(r"```sh\n(make wheelhouse\n.*?)```", page, re.DOTALL)[1]
    return [line for line in block.splitlines() if line and not line.startswith("make ")]


class Cluster:
    """Three hosts to be, and a fourth one from which the commands are given."""

    def __init__(self, folder, prepared):
        self.hosts = Hosts(folder, 4, ssh=True)
        self.nodes, self.desk = list(self.hosts)[:3], self.hosts[3]
        self.project = folder / "project"
        self.shared = folder / "shared"
        self.project.mkdir()
        self.shared.mkdir()
        (self.project / "wheelhouse").symlink_to(ROOT / "wheelhouse")
        placeholders = {
            "<HEAD_ADDRESS>": self.nodes[0].address,
            "<WORKER_ADDRESS_1>": self.nodes[1].address,
            "<WORKER_ADDRESS_2>": self.nodes[2].address,
            "<SSH_USER>": "root",
            "<SSH_KEY>": str(self.hosts.key),
        }
        self.placeholders = placeholders
        (self.project / "cluster.yaml").write_text(self.filled((ROOT / "cluster.yaml").read_text()))
        lines = [f'{i},Title {i},"{"abc"[i % 3]}, {"defgh"[i % 5]}",{1980 + i % 40}' for i in range(1, ITEMS + 1)]
        (self.shared / "items.csv").write_text("\n".join(["id,title,tags,year", *lines]))
        if prepared:
            self._prepare()

    def filled(self, text):
        for name, value in self.placeholders.items():
            text = text.replace(name, value)
        return text.replace("/shared", str(self.shared))

    def _prepare(self):
        """Fill an environment once, and give each host a copy of its own."""
        venv = self.hosts[0].home / ".simshard/venv"
        first = self.nodes[0].folder / "home/.simshard"
        self.nodes[0].run(f"{sys.base_prefix}/bin/python3", "-m", "venv", venv)
        install = ("-m", "pip", "install", "--quiet", "--no-index", "--find-links", ROOT / "wheelhouse", "simshard")
        self.nodes[0].run(venv / "bin/python", *install, timeout=_LONGEST)
        for node in self.nodes[1:]:
            subprocess.run(["cp", "-al", first, node.folder / "home/.simshard"], check=True)

    def shell(self, line):
        text = f"cd {self.project}; export PATH={BIN}:$PATH; {self.filled(line)}"
        return self.desk.run("bash", "-c", text, timeout=_LONGEST, env={"PYTHONWARNINGS": "ignore"}).stdout

    def serve(self, line):
        """Start a server from a terminal; its first line of output that is its own, and how to end it: with Ctrl-C."""
        terminal, inner = pty.openpty()
        text = f"cd {self.project}; export PATH={BIN}:$PATH; {self.filled(line)}"
        process = self.desk.start("bash", "-c", text, stdin=inner, stdout=inner, stderr=inner, env={"TERM": "dumb"})
        os.close(inner)
        told = b""
        while not re.search(rb"http://\S+  snapshot .*\r?\n", told):
            try:
                told += os.read(terminal, 65536)
            except OSError as error:
                raise AssertionError(told.decode()) from error

        def end():
            os.write(terminal, b"\x03")
            rest = b""
            try:
                while part := os.read(terminal, 65536):
                    rest += part
            except OSError:
                pass  # the other end of the terminal is closed
            assert process.wait(60) == 0, (told + rest).decode()
            os.close(terminal)

        return end

    def check_answers(self, bearer):
        """Each node answers as the oracle does, and nobody without the key."""
        matrix = read_matrix(Store(self.shared / "store"))
        asked = 0
        for node in self.nodes:
            url = f"http://{node.address}:8000"
            ask = ["curl", "-sS", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", f"{url}/v1/items/1/similar"]
            assert self.desk.run(*ask).stdout == "401"
            with httpx.Client(base_url=url, headers={"authorization": bearer}, timeout=30) as client:
                for row in range(0, ITEMS, 4):
                    answer = client.get(f"/v1/items/{row + 1}/similar", params={"limit": 10}).raise_for_status().json()
                    told = [(hit["id"] - 1, np.float32(hit["score"])) for hit in answer["hits"]]
                    assert told == oracle.hits(matrix, [oracle.Seed(row)], limit=10)
                    asked += 1
        return asked

    def left(self):
        """What runs on the three hosts beside their SSH servers."""
        running = [process for node in self.nodes for process in node.processes()]
        return [process for process in running if "sshd" not in process.name()]


def run(prepared):
    """All commands once; the seconds of each step."""
    seconds = {}
    folder = Path(tempfile.mkdtemp(prefix="simshard-cluster-"))
    cluster = Cluster(folder, prepared)
    try:
        bearer = ""
        end = None
        for line in commands():
            begun = time.monotonic()
            name = re.sub(r"'|SIMSHARD_API_KEY=\S+ ", "", line).replace("ray exec cluster.yaml ", "")
            name = " ".join(word for word in name.split()[:2] if not word.startswith("-"))
            if "simshard serve" in line:
                bearer = "Bearer " + re.search(r"SIMSHARD_API_KEY=(\S+)", line)[1]
                end = cluster.serve(line)
            elif line.startswith("curl "):
                assert "hits" in json.loads(cluster.shell(line.replace("curl ", "curl -sS "))), line
                asked = cluster.check_answers(bearer)
                name = f"{asked} checked questions"
            else:
                if line.startswith("ray down"):
                    end()
                    seconds["Ctrl-C"] = time.monotonic() - begun
                    begun = time.monotonic()
                cluster.shell(line)
            seconds[name] = time.monotonic() - begun
            if line.startswith("ray up"):
                begun = time.monotonic()
                while len(re.findall(r"Alive|ALIVE", _nodes(cluster))) < 3:
                    assert time.monotonic() < begun + 300, _nodes(cluster)
                    time.sleep(1)
                seconds["all nodes there"] = time.monotonic() - begun
        begun = time.monotonic()
        while left := cluster.left():
            assert time.monotonic() < begun + 180, [process.cmdline() for process in left]
            time.sleep(0.5)
        seconds["nothing left"] = time.monotonic() - begun
    except BaseException:
        for node in cluster.nodes:
            print(node.name, *(" ".join(process.cmdline())[:150] for process in node.processes()), sep="\n  ")
        raise
    finally:
        cluster.hosts.close()
        shutil.rmtree(folder, ignore_errors=True)
    return {name: round(value, 1) for name, value in seconds.items()}


def _nodes(cluster):
    program = (
        "import ray; ray.init('auto', logging_level='ERROR'); print(*('ALIVE' for n in ray.nodes() if n['Alive']))"
    )
    python = cluster.hosts[0].home / ".simshard/venv/bin/python"
    return cluster.nodes[0].run(python, "-c", program, check=False, env={"RAY_AUTH_MODE": "token"}).stdout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--to", type=Path, help="JSON file for the seconds, and what `benchmarks.record` states")
    parser.add_argument("--prepared", action="store_true", help="fill the hosts' environments beforehand")
    options = parser.parse_args()
    if reason := cannot() or cannot_ssh():
        print(f"skipped: {reason}")
        sys.exit(1 if os.environ.get("CI") else 0)
    table = []
    for number in range(1, options.runs + 1):
        table.append(run(options.prepared))
        print(f"run {number}: " + ", ".join(f"{name} {value} s" for name, value in table[-1].items()), flush=True)
        if options.to:
            scale = {"items": ITEMS, "hosts": 3, "runs": number}
            record.write(options.to, record.Result(scale, {"runs": table}))
    print("| step | " + " | ".join(f"run {i}" for i in range(1, len(table) + 1)) + " |")
    print("|---|" + "---|" * len(table))
    for name in table[0]:
        print(f"| {name} | " + " | ".join(f"{each[name]}" for each in table) + " |")


if __name__ == "__main__":
    main()
