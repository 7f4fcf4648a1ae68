"""simshard on several hosts, as people run it: Ray started on each, one command serves, others ask."""

import csv
import io
import json
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from tests.support import hosts as bench
from tests.support import oracle
from tests.support.builder import random_matrix, write_store

BIN = Path(sys.executable).parent
KEY = {"SIMSHARD_API_KEY": "k3y"}
BEARER = {"authorization": "Bearer k3y"}
ITEMS = 90
MATRIX = random_matrix(7, ITEMS, density=0.8)
PORT = 8000

pytestmark = pytest.mark.last


def shell(host, text, **options):
    """What a shell on a host wrote, with simshard and ray on its PATH."""
    return host.run("bash", "-c", f"export PATH={BIN}:$PATH; {text}", **options)


def simshard(host, *arguments, env=None):
    """A command of simshard on a host, to its end."""
    return host.run(BIN / "simshard", *arguments, check=False, env={**KEY, **(env or {})})


class Serving:
    """A `simshard serve` on a host, while it runs."""

    def __init__(self, host, *arguments, env=KEY):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = host.start(BIN / "simshard", "serve", *arguments, env=env, **pipes)

    def __enter__(self):
        self.line = self.process.stdout.readline()
        if not self.line:
            raise AssertionError(self.process.communicate()[1])
        return self

    def __exit__(self, *_):
        bench.terminate(self.process)
        self.errors = self.process.communicate(timeout=60)[1]


def listening(host):
    """The addresses on which TCP connections are accepted on a host, with the programs."""
    found = {}
    for line in host.run("ss", "-ltnpH").stdout.splitlines():
        words = line.split()
        found.setdefault(words[3].rpartition(":")[0].removeprefix("[::ffff:").strip("[]"), set()).add(words[-1])
    return found


def ports(host):
    """The ports on which HAProxy accepts TCP connections on a host, with the addresses."""
    found = {}
    for line in host.run("ss", "-ltnpH").stdout.splitlines():
        words = line.split()
        if "haproxy" in words[-1]:
            address, _, port = words[3].rpartition(":")
            found.setdefault(int(port), set()).add(address)
    return found


def check_answers(url):
    """Every answer of a server is that of the oracle."""
    with httpx.Client(base_url=url, headers=BEARER, timeout=30) as client:
        for row in range(0, ITEMS, 3):
            answer = client.get(f"/v1/items/{row}/similar", params={"limit": 20})
            assert answer.status_code == 200, answer.text
            told = [(hit["id"], np.float32(hit["score"])) for hit in answer.json()["hits"]]
            assert told == oracle.hits(MATRIX, [oracle.Seed(row)], limit=20)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return write_store(tmp_path_factory.mktemp("hosts") / "store", MATRIX, shards=3).root


@pytest.fixture(scope="module")
def cluster(hosts):
    """Ray on three hosts, started the plain way: `simshard env`, then `ray start`, on each."""
    head, *others = hosts
    shell(head, "simshard env --make-token")
    for host in others:
        shutil.copytree(head.folder / "home/.ray", host.folder / "home/.ray", dirs_exist_ok=True)
    join_ray(head, f"--head --node-ip-address={head.address} --include-dashboard=false")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda host: join_ray(host, f"--address={head.address}:6379"), others))
    yield hosts
    for host in hosts:
        host.kill()


def join_ray(host, start, variables='eval "$(simshard env)"'):
    shell(host, f"{variables}; ray start {start} --num-cpus=1 --object-store-memory=100000000")


def stop_ray(host):
    shell(host, "ray stop", check=False)
    deadline = time.monotonic() + 30
    while left := host.processes("ray"):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_a_server_for_everybody_asks_for_its_key_and_keeps_all_else_to_itself(hosts, store):
    host, other = hosts[0], hosts[1]
    with Serving(host, "--store", store, "--host", "0.0.0.0", "--port", PORT) as serving:
        url = f"http://{host.address}:{PORT}"
        assert serving.line.startswith(f"http://0.0.0.0:{PORT} ")
        ask = ("curl", "-sS", "-m", "10", "-w", "\n%{http_code}", f"{url}/v1/items/3/similar?limit=1")
        assert other.run(*ask).stdout.endswith("\n401")
        answer, status = other.run(*ask, "-H", "authorization: Bearer k3y").stdout.rsplit("\n", 1)
        assert status == "200"
        best = oracle.hits(MATRIX, [oracle.Seed(3)], limit=1)[0]
        assert json.loads(answer)["hits"][0]["id"] == best[0]
        check_answers(url)
        beyond = {address: programs for address, programs in listening(host).items() if address != "127.0.0.1"}
        assert set(beyond) == {"0.0.0.0"}
        assert [("haproxy" in program) for program in beyond["0.0.0.0"]] == [True]
    assert serving.process.returncode == 0
    assert not host.pids()


def test_a_host_that_has_ipv6_alone(hosts, store):
    host, other = hosts[2], hosts[1]
    shell(host, f"ip addr del {host.address}/24 dev eth0; ip -6 addr add fd79::3/64 dev eth0 nodad")
    shell(other, "ip -6 addr add fd79::2/64 dev eth0 nodad")
    try:
        with Serving(host, "--store", store, "--host", "::", "--port", PORT, "--redis", "off") as serving:
            assert serving.line.startswith(f"http://[::]:{PORT} ")
            ask = ("curl", "-sS", "-m", "10", "-H", "authorization: Bearer k3y")
            body = json.loads(other.run(*ask, f"http://[fd79::3]:{PORT}/v1/items/3/similar?limit=5").stdout)
            assert [hit["id"] for hit in body["hits"]] == [
                id_ for id_, _ in oracle.hits(MATRIX, [oracle.Seed(3)], limit=5)
            ]
            assert set(listening(host)) == {"127.0.0.1", "*"}
    finally:
        shell(host, f"ip -6 addr del fd79::3/64 dev eth0; ip addr add {host.address}/24 dev eth0")
        shell(other, "ip -6 addr del fd79::2/64 dev eth0")


def requests_of_replicas(hosts):
    """How many requests each replica got from the front ends of all hosts, by HAProxy's statistics."""
    counts = {}
    for host in hosts:
        told = host.run("curl", "-sS", "http://127.0.0.1:8404/stats;csv").stdout
        for row in csv.DictReader(io.StringIO(told.lstrip("# "))):
            if row["svname"].startswith("SERVE_REPLICA"):
                counts[row["svname"]] = counts.get(row["svname"], 0) + int(row["stot"])
    return counts


def test_every_node_answers_and_every_replica_is_asked(cluster, store):
    head = cluster[0]
    options = ("--store", store, "--address", f"{head.address}:6379", "--replicas", 3, "--redis", "off")
    with Serving(head, *options, "--host", "0.0.0.0", "--port", PORT) as serving:
        for host in cluster:
            url = f"http://{host.address}:{PORT}"
            assert httpx.get(f"{url}/v1/items/3/similar").status_code == 401
            check_answers(url)
            own = {port: addresses for port, addresses in ports(host).items() if port in (8404, 9101)}
            assert own == {8404: {"127.0.0.1"}, 9101: {"127.0.0.1"}}
        counts = requests_of_replicas(cluster)
        assert len(counts) == 3
        assert min(counts.values()) > 0, counts

        refused = simshard(head, "serve", *options, "--name", "other", "--route-prefix", "/other", "--port", PORT + 1)
        assert refused.returncode == 1
        assert f"Serve listens on 0.0.0.0, port {PORT}" in refused.stderr
        job = shell(head, "python -m simshard.examples.second_job 3")
        best = oracle.hits(MATRIX, [oracle.Seed(3)], limit=1)[0]
        assert f"3: most like {best[0]} " in job.stdout
    assert (serving.process.returncode, "of the cluster" in serving.errors) == (0, False), serving.errors

    taken = cluster[1].start("python3", "-c", f"import socket; socket.create_server(('', {PORT + 2})).accept()")
    try:
        while not cluster[1].run("ss", "-ltnH", f"sport = :{PORT + 2}").stdout:
            assert taken.poll() is None
        refused = simshard(head, "serve", *options, "--port", PORT + 2)
        assert refused.returncode == 1
        assert f"port {PORT + 2} of node {cluster[1].address} is taken (Address already in use)" in refused.stderr
    finally:
        bench.terminate(taken)
        taken.wait(10)

    with Serving(head, *options, "--port", PORT):  # now for each host alone
        assert all(host.run("curl", "-sS", f"http://127.0.0.1:{PORT}/livez").stdout for host in cluster)
        for host in cluster:
            with pytest.raises(httpx.ConnectError):
                httpx.get(f"http://{host.address}:{PORT}/livez")


def test_a_cluster_that_others_reach_is_served_with_a_key_only(cluster, store):
    options = ("--store", store, "--address", f"{cluster[0].address}:6379")
    refused = simshard(cluster[0], "serve", *options, env={"SIMSHARD_API_KEY": ""})
    assert refused.returncode == 1
    assert "can be reached from other machines" in refused.stderr
    assert "SIMSHARD_API_KEY" in refused.stderr


def test_a_store_or_an_input_that_a_node_does_not_see_is_told(cluster, tmp_path):
    head = cluster[0]
    address = ("--address", f"{head.address}:6379")
    items = "id,tags,year\n" + "\n".join(f'{i},"{"ab"[i % 2]}, {"cde"[i % 3]}",{1990 + i % 17}' for i in range(50))
    (tmp_path / "items.csv").write_text(items)
    (head.folder / "home/items.csv").write_text(items)
    blind = f"nodes {cluster[1].address}, {cluster[2].address} of the cluster: "
    for arguments, what in (
        (("compute", tmp_path / "items.csv", "--store", head.home / "store"), f"the store {head.home / 'store'}"),
        (("compute", head.home / "items.csv", "--store", tmp_path / "store"), str(head.home / "items.csv")),
    ):
        refused = simshard(head, *arguments, *address)
        assert refused.returncode == 1
        assert f"{what} is not seen there" in refused.stderr
        assert blind in refused.stderr
    simshard(head, "compute", head.home / "items.csv", "--store", head.home / "store")
    refused = simshard(head, "serve", "--store", head.home / "store", *address)
    assert refused.returncode == 1
    assert f"the store {head.home / 'store'} is not seen there" in refused.stderr
    built = simshard(head, "compute", tmp_path / "items.csv", "--store", tmp_path / "store", *address)
    assert built.returncode == 0, built.stderr


def test_nodes_with_another_version_or_without_the_environment_are_told(cluster, store, tmp_path):
    head, last = cluster[0], cluster[2]
    address = f"{head.address}:6379"
    information = tmp_path / "simshard-9.9.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: simshard\nVersion: 9.9\n")
    stop_ray(last)
    join_ray(last, f"--address={address}", f'eval "$(simshard env)"; export PYTHONPATH={tmp_path}')
    refused = simshard(head, "serve", "--store", store, "--address", address)
    assert refused.returncode == 1
    assert f"node {last.address} has simshard 9.9, this command simshard " in refused.stderr
    stop_ray(last)
    join_ray(last, f"--address={address}", "export RAY_AUTH_MODE=token")
    with Serving(head, "--store", store, "--address", address, "--host", "0.0.0.0", "--redis", "off") as serving:
        check_answers(f"http://{head.address}:{PORT}")
    told = [line for line in serving.errors.splitlines() if f"node {last.address} of the cluster" in line]
    assert any("no RAY_SERVE_ENABLE_HA_PROXY=1: Ray's Python proxy answers there" in line for line in told)
    assert any("no RAY_worker_niceness" in line for line in told)
    assert all('eval "$(simshard env)"' in line for line in told)


def test_a_cluster_without_tokens_is_refused_unless_the_network_is_trusted(hosts, store):
    host = hosts[1]
    host.kill()
    join_ray(
        host,
        f"--head --node-ip-address={host.address} --port=6400",
        'eval "$(simshard env)"; export RAY_AUTH_MODE=disabled',
    )
    try:
        options = ("--store", store, "--address", f"{host.address}:6400", "--redis", "off")
        off = {"RAY_AUTH_MODE": "disabled"}
        refused = simshard(host, "serve", *options, env=off)
        assert refused.returncode == 1
        assert "without token authentication" in refused.stderr
        assert "--trust-network" in refused.stderr
        with Serving(host, *options, "--host", "0.0.0.0", "--trust-network", env={**KEY, **off}):
            check_answers(f"http://{host.address}:{PORT}")
    finally:
        host.kill()


def test_ray_stop_leaves_nothing_of_ours(cluster):
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(stop_ray, cluster))
    assert [psutil.Process(pid).cmdline() for host in cluster for pid in host.pids()] == []


def test_the_bench_says_why_it_cannot_be_made(monkeypatch):
    monkeypatch.setattr(bench.shutil, "which", lambda name, **_: None)
    assert "iproute2" in bench.cannot()
    assert "openssh-server" in bench.cannot_ssh()
