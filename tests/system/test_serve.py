"""The whole service as a user runs it: `simshard serve` as a process, asked over HTTP."""

import json
import random
import subprocess
import sys

import httpx
import psutil
import pytest

from simshard.serve.launch.redis_server import find_server
from tests.support import oracle
from tests.support.builder import write_store
from tests.support.command import command
from tests.support.load import ask_recommend, ask_similar, printed
from tests.support.server import actors_of, gcs_address, running
from tests.support.serving import run_serve, serving
from tests.support.session_store import MATRICES


def expected(matrix, seeds, **options):
    return oracle.hits(matrix, seeds, **options)


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
