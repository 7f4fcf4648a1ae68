"""Every example in README and docs is run, in their order, in one folder, against a server of the session's cluster."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from tests.support.pages import MACHINES, PAGES, blocks
from tests.support.server import Server, gcs_address, stop_all

# What installs; CI itself runs `make test`, and test_demo.py what `make demo` starts.
ELSEWHERE = ("make ", "pip ")
URL = "http://127.0.0.1:8000"
COUNT = 60


class Reader:
    """Somebody who does what the pages say."""

    def __init__(self, folder, cluster):
        self.folder, self.cluster = folder, cluster
        self.address = gcs_address(cluster.folder)
        self.servers = []
        self.ran = 0
        rng = np.random.default_rng(0)
        lines = ["id,title,genres,tags,year,type,rating,season:year"]
        for id_ in range(1, COUNT + 1):
            genres = ",".join(rng.choice(["Action", "Drama", "Space", "Comedy", "War"], 2, replace=False))
            year = rng.integers(1985, 2024)
            kind, rating = rng.choice(["TV", "Movie", "OVA"]), rng.integers(10, 20) / 2
            lines.append(f'{id_},Title {id_},"{genres}","{genres}",{year},{kind},{rating},{year}')
        (folder / "items.csv").write_text("\n".join(lines))
        pairs = [{"a": a, "b": b, "score": round(float(rng.random()), 3)} for a in range(1, 20) for b in range(1, a)]
        (folder / "pairs.json").write_text(json.dumps(pairs))
        ids = pa.table({"id": list(range(1, COUNT + 1))})
        pa.parquet.write_table(ids, folder / "items.parquet")

    def url(self):
        return self.servers[-1].url

    def here(self, text):
        """The text with the addresses of this test in place of those of the page."""
        name = f"docs{len(self.servers)}"
        text = text.replace(URL, self.url()) if self.servers else text
        return re.sub(r"(simshard\.examples\.\w+ .*)", rf"\1 --app {name}", text)

    def serve(self, line):
        words = line.split()[2:]
        store = words[words.index("--store") + 1]
        rest = [word for i, word in enumerate(words) if word != "--store" and words[i - 1] != "--store"]
        rest = [str(self.folder / word) if word.endswith(".toml") else word for word in rest]
        name = f"docs{len(self.servers) + 1}"
        options = ("--address", self.address, "--name", name, "--route-prefix", f"/{name}", "--redis", "off")
        port = str(self.cluster.server.port)
        env = {"SIMSHARD_ADMIN_KEY": "adm1n"}
        stop_all(*self.servers)
        self.servers.append(Server(self.folder / store, *options, *rest, "--port", port, env=env))

    def run(self, language, text):
        if language == "sh":
            for line in re.split(r"\n(?=\S)", text.strip()):
                if line.startswith("simshard serve "):
                    self.serve(line)
                elif not line.startswith(ELSEWHERE):
                    self.shell(self.here(line))
        elif language == "python":
            self.done([sys.executable, "-c", self.here(text)])
        elif language == "json":
            answer = httpx.post(f"{self.url()}/v1/recommend", json=json.loads(text), timeout=30)
            assert answer.status_code == 200, answer.text
            assert set(answer.json()) >= {"hits", "snapshot"}
        elif language == "toml":
            name = re.match(r"# (\w+\.toml)\n", text)
            assert name, "the first line names the file"
            (self.folder / name[1]).write_text(text)
        self.ran += 1

    def shell(self, line):
        told = self.done(["bash", "-euo", "pipefail", "-c", line.replace("curl ", "curl -sS --fail-with-body ")])
        if line.startswith("curl "):
            assert isinstance(json.loads(told), dict)

    def done(self, words):
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        env = {**os.environ, "PATH": path}
        done = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, f"{words[-1]}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="module")
def reader(cluster, tmp_path_factory):
    reader = Reader(tmp_path_factory.mktemp("docs"), cluster)
    yield reader
    stop_all(*reader.servers)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_examples_of_a_page(reader, page):
    if not reader.servers and page != PAGES[0]:  # run alone, a page still needs what README sets up
        test_the_examples_of_a_page(reader, PAGES[0])
    for of_page, number, language, text in blocks():
        if of_page == page and language and not text.startswith(MACHINES):
            try:
                reader.run(language, text)
            except AssertionError as error:
                raise AssertionError(f"{page.name}, block {number}: {error}") from error
    if page.name in ("README.md", "queries.md"):
        assert reader.ran > 5
