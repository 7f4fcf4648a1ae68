"""simshard where people start it: variables meant for others, ports that are taken, a container."""

import json
import os
import re
import shlex
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import httpx
import numpy as np
import psutil
import pytest

from simshard.serve.launch.redis_server import find_server
from simshard.shards.ray_cluster import LOOPBACK_VARIABLE
from tests.support import container, oracle
from tests.support.builder import random_matrix, write_store
from tests.support.command import command
from tests.support.server import Server, folders, running, stop_all
from tests.support.session_store import MATRICES
from tests.support.skips import skip_unless_ci

ROOT = Path(__file__).resolve().parents[2]
ITEMS = 200
MATRIX = random_matrix(11, ITEMS, density=0.9)
LOOPBACK = {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def best(matrix, row):
    return oracle.hits(matrix, [oracle.Seed(row)], limit=1)[0]


def listeners(process):
    """The addresses at which a process takes connections or datagrams."""
    found = set()
    for each in process.net_connections("inet"):
        if each.laddr and (each.status == psutil.CONN_LISTEN or each.type == socket.SOCK_DGRAM):
            found.add((each.laddr.ip, each.laddr.port))
    return found


def test_every_socket_is_on_loopback(cluster):
    """Of every process that `simshard serve` started, and of its own; fails when Ray opens another one."""
    serve = psutil.Process(cluster.server.process.pid)
    ours = {process.pid: process for process in [serve, *serve.children(recursive=True), *running(cluster.folder)]}
    found = {(process.name(), process.pid): listeners(process) for process in ours.values()}
    assert sum(map(len, found.values())) > 15
    assert {"raylet", "gcs_server"} <= {name for name, _ in found}
    beyond = {process: sockets for process, sockets in found.items() if {ip for ip, _ in sockets} - LOOPBACK}
    assert beyond == {}


def test_a_second_job_needs_the_name_alone(cluster):
    assert stat.S_IMODE((cluster.folder / "connection.json").stat().st_mode) == 0o600
    assert stat.S_IMODE((cluster.folder / "token").stat().st_mode) == 0o600
    job = [sys.executable, "-m", "simshard.examples.second_job", "3"]  # which imports Ray first
    told = subprocess.run(job, check=True, capture_output=True, text=True, timeout=120).stdout
    assert f"3: most like {best(MATRICES[0], 3)[0]} " in told
    simshard = shlex.join(command("env", "--app", "simshard"))
    program = "import ray; ray.init(logging_level='ERROR'); print(ray.cluster_resources()['CPU'])"
    text = f'set -e; variables=$({simshard}); eval "$variables"; {shlex.quote(sys.executable)} -c "{program}"'
    told = subprocess.run(["bash", "-c", text], check=True, capture_output=True, text=True, timeout=120).stdout
    assert float(told.split()[-1]) > 0
    unknown = subprocess.run(command("env", "--app", "nobody"), check=False, capture_output=True, text=True)
    assert unknown.returncode == 1
    assert "no simshard serve of this user runs an application 'nobody' here; running: " in unknown.stderr


class Trap:
    """A proxy that answers nothing, and counts who comes."""

    def __init__(self):
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.count = 0
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            self.count += 1
            connection.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """A server that was started where everything is set for something else, and what it was started among."""
    store = write_store(tmp_path_factory.mktemp("hostile") / "store", MATRIX, shards=2)
    trap = Trap()
    taken = []
    for port in range(30_000, 30_005):
        try:
            taken.append(socket.create_server(("127.0.0.1", port)))
        except OSError:
            continue  # by the session's server
    temporary = tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp")
    start = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", "--port=0", "--num-cpus=1"]
    start += ["--include-dashboard=false", f"--temp-dir={temporary.name}", "--node-ip-address=127.0.0.1"]
    env = {**os.environ, LOOPBACK_VARIABLE: "0", "RAY_AUTH_MODE": "disabled"}
    ray = subprocess.Popen(start, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env)
    servers = []
    try:
        while "--block" not in (line := ray.stdout.readline()):
            assert line, "Ray did not start"
        variables = {
            "HTTP_PROXY": trap.url,
            "http_proxy": trap.url,
            "HTTPS_PROXY": trap.url,
            "ALL_PROXY": trap.url,
            "RAY_ADDRESS": "127.0.0.1:1",
            "RAY_NAMESPACE": "elsewhere",
            "RAY_REDIS_ADDRESS": "127.0.0.1:2",
            "RAY_TMPDIR": temporary.name,
            "RAY_SERVE_DEFAULT_HTTP_HOST": "192.0.2.1",
            "REDIS_URL": "redis://127.0.0.1:3",
            "LC_ALL": "C",
            "PYTHONUTF8": "0",
            "PYTHONCOERCECLOCALE": "0",
        }
        before = folders()
        servers.append(Server(store.root, env=variables))
        (folder,) = folders() - before
        yield SimpleNamespace(server=servers[0], trap=trap, ray=ray, variables=variables, taken=taken, folder=folder)
    finally:
        stop_all(*servers)
        for each in (*taken, trap.socket):
            each.close()
        ray.terminate()
        ray.communicate(timeout=60)
        temporary.cleanup()


@pytest.mark.last
def test_a_proxy_is_for_other_machines(hostile):
    with httpx.Client(trust_env=False) as client:
        hit = client.get(f"{hostile.server.url}/v1/items/3/similar?limit=1").json()["hits"][0]
    assert (hit["id"], np.float32(hit["score"])) == best(MATRIX, 3)
    env = {**os.environ, **hostile.variables}
    asked = command("similar", "3", "--limit", "1", "--json", "--url", hostile.server.url)
    told = subprocess.run(asked, check=True, capture_output=True, text=True, env=env).stdout
    assert json.loads(told)["hits"][0] == hit
    time.sleep(3)  # Ray tells its metrics now and then
    assert hostile.trap.count == 0


@pytest.mark.last
def test_variables_for_another_cluster_are_not_used(hostile):
    health = httpx.get(f"{hostile.server.url}/healthz").json()
    assert (health["status"], health["cache"]["redis"]) == ("ok", "ok")
    assert f"embedded {find_server().binary.name}" in hostile.server.line


@pytest.mark.last
def test_another_ray_of_the_same_user_is_left_alone(hostile):
    assert hostile.ray.poll() is None
    serve = psutil.Process(hostile.server.process.pid)
    assert hostile.ray.pid not in {child.pid for child in serve.children(recursive=True)}
    names = [child.name() for child in psutil.Process(hostile.ray.pid).children(recursive=True)]
    assert "raylet" in names


@pytest.mark.last
def test_ports_of_replicas_that_are_taken_are_passed_over(hostile):
    assert hostile.taken
    serve = psutil.Process(hostile.server.process.pid)
    ports = {port for child in serve.children(recursive=True) for _, port in listeners(child)}
    replica = {port for port in ports if 30_000 <= port <= 31_000}
    assert replica
    assert not replica & {each.getsockname()[1] for each in hostile.taken}


@pytest.mark.last
def test_answers_in_flight_are_finished(hostile):
    """The terminal is closed while answers are computed; they arrive whole, and everything ends."""
    more = {"diversity": 0.5, "limit": 100, "timeout_ms": 60_000}

    def body(number):
        """What takes a second or two: no two of its requests are alike."""
        weights = [1 + number + i / 2000 for i in range(150)]
        return {"requests": [{"positive": [{"id": 1, "weight": weight}, 2, 3], **more} for weight in weights]}

    processes = psutil.Process(hostile.server.process.pid).children(recursive=True)
    with ThreadPoolExecutor(3) as pool, httpx.Client(timeout=60, trust_env=False) as idle:
        assert idle.get(f"{hostile.server.url}/livez").status_code == 200  # a connection that stays open, and idles
        url = f"{hostile.server.url}/v1/recommend/batch"
        asked = [pool.submit(httpx.post, url, json=body(number), timeout=60) for number in range(3)]
        time.sleep(0.5)
        assert [each.result().text[:200] for each in asked if each.done()] == []
        seconds, errors = hostile.server.stop(signal.SIGHUP)
        for each in asked:
            answer = each.result()
            assert answer.status_code == 200
            assert all("hits" in response for response in answer.json()["responses"])
    assert hostile.server.process.returncode == 0
    ignored = re.search(r"for another Ray cluster, so not used here: (.*)\n", errors)[1].split(", ")
    assert set(ignored) >= {name for name in hostile.variables if name.startswith("RAY_")}
    assert seconds < 30  # the promise is 10 s on a machine that does nothing else
    assert not hostile.folder.exists()
    assert not [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert hostile.ray.poll() is None


def test_a_port_that_is_taken_is_named(tmp_path):
    store = write_store(tmp_path / "store", MATRIX)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        options = ("serve", "--store", store.root, "--port", port)
        refused = subprocess.run(command(*options), check=False, capture_output=True, text=True)
    assert refused.returncode == 1
    assert re.search(rf"port {port} of 127\.0\.0\.1 is taken by \S+ \(pid {os.getpid()}\)", refused.stderr)
    assert "choose another --port" in refused.stderr
    options = ("serve", "--store", store.root, "--host", "192.0.2.1")
    env = {**os.environ, "SIMSHARD_API_KEY": "k3y"}
    refused = subprocess.run(command(*options), check=False, capture_output=True, text=True, env=env)
    assert "host 192.0.2.1, port 8000: nobody can listen there (Cannot assign requested address)" in refused.stderr


def test_a_locale_without_letters(tmp_path):
    (tmp_path / "items.csv").write_text("id,title,tags\n1,Amélie,a\n2,Ère,a\n3,\u5343\u3068,a\n", encoding="utf-8")

    def run(env, *arguments):
        words = command(*arguments, "--store", tmp_path / "store")
        return subprocess.run(words, check=True, capture_output=True, env={**os.environ, **env}).stdout

    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    run(plain, "compute", tmp_path / "items.csv")
    assert "Amélie" in run(plain, "items", "search", "am").decode()
    assert json.loads(run(plain, "similar", "1", "--json"))["hits"][0]["payload"]["title"] == "Ère"
    told = run({"PYTHONIOENCODING": "latin-1"}, "similar", "1").decode("latin-1")
    assert "Ère" in told
    assert r"\u5343\u3068" in told


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The image of deploy/Dockerfile, built step by step."""
    if reason := container.cannot():
        skip_unless_ci(reason)
    if not (ROOT / "wheelhouse").is_dir():
        skip_unless_ci("the image is made of the wheelhouse: make wheelhouse")
    made = container.Image(ROOT / "deploy/Dockerfile", ROOT, tmp_path_factory.mktemp("image"))
    yield made
    made.close()


@pytest.mark.last
def test_the_steps_of_the_dockerfile(image):
    assert image.stage.user == "65534:65534"
    assert (image.stage.root / "opt/simshard/bin/simshard").exists()
    assert not list((image.stage.root / "opt/simshard").glob("bin/pip*"))
    assert image.stage.command[:1] == ["serve"]


@pytest.mark.last
def test_a_container(image, tmp_path):
    """No home, nothing to write to but one folder, 64 MB of shared memory, no `ps`, process 1; ended by SIGTERM."""
    store = write_store(tmp_path / "store", MATRIX, shards=2).root
    key = {"SIMSHARD_API_KEY": "k3y"}
    running_ = image.start(mounts=[(store, "/store")], environment=key)
    try:
        url = "http://127.0.0.1:8000/v1/items/3/similar?limit=1"
        assert json.loads(running_.ask(url))["status"] == 401
        hit = json.loads(running_.ask(url, "-H", "authorization: Bearer k3y"))["hits"][0]
        assert (hit["id"], np.float32(hit["score"])) == best(MATRIX, 3)
        processes = running_.processes()
        assert {process.uids().real for process in processes} == {65534}
        assert not [process for process in processes if process.status() == psutil.STATUS_ZOMBIE]
    finally:
        code, seconds, errors = running_.stop()
    assert (code, errors.strip()) == (0, "")
    assert seconds < 30  # see above
