"""Where a run keeps its files, and who finds it."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from simshard.serve.launch.ray_environment import foreign, of_own_cluster, write_token
from simshard.serve.launch.run_folder import RunFolder, clean_leftovers
from simshard.shards.errors import SimshardError
from simshard.shards.private_folders import private_folder, running_folders
from simshard.shards.ray_cluster import Connection, connections, find, past_proxies, token_file


@pytest.fixture
def base(monkeypatch):
    """A short folder that SIMSHARD_RUN_DIR names."""
    with tempfile.TemporaryDirectory(prefix="ss-", dir="/tmp") as folder:
        monkeypatch.setenv("SIMSHARD_RUN_DIR", folder)
        yield Path(folder)


def test_a_run_is_private_and_removed(base):
    folder = RunFolder()
    assert folder.path.parent == base / str(os.getuid())
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder.path, folder.path.parent)] == [0o700, 0o700]
    assert running_folders() == [folder.path]
    assert clean_leftovers() == []
    assert folder.path.exists()
    folder.close()
    assert not folder.path.exists()


def test_what_a_run_left_is_removed_and_nothing_else(base):
    kept = private_folder()
    (base / str(os.getuid()) / "abcd").mkdir()
    assert running_folders() == []
    clean_leftovers()
    assert [path.name for path in (base / str(os.getuid())).iterdir()] == [kept.name]


def test_a_folder_that_cannot_be_used_is_told(base, monkeypatch):
    monkeypatch.setenv("SIMSHARD_RUN_DIR", f"/tmp/{'x' * 40}")
    try:
        with pytest.raises(SimshardError, match="SIMSHARD_RUN_DIR: at most 2"):
            RunFolder()
    finally:
        os.rmdir(f"/tmp/{'x' * 40}/{os.getuid()}")
        os.rmdir(f"/tmp/{'x' * 40}")
    monkeypatch.setenv("SIMSHARD_RUN_DIR", "/dev/null")
    with pytest.raises(SimshardError, match=r"cannot be made .*; let SIMSHARD_RUN_DIR name one that can be written"):
        RunFolder()
    monkeypatch.setenv("SIMSHARD_RUN_DIR", str(base))
    (base / str(os.getuid())).mkdir(exist_ok=True)
    (base / str(os.getuid())).chmod(0o755)
    with pytest.raises(SimshardError, match="not a folder of mode 700 of this user"):
        RunFolder()


def test_an_application_is_found_by_its_name(base):
    assert connections() == []
    runs = [RunFolder(), RunFolder(), RunFolder(), RunFolder()]
    try:
        for folder, app, port in zip(runs, ("one", "two", "two"), (1, 2, 3), strict=False):
            variables = {"RAY_AUTH_MODE": "token"}
            Connection(app, "http://127.0.0.1:8000", f"127.0.0.1:{port}", variables).write(folder.path)
            assert stat.S_IMODE((folder.path / "connection.json").stat().st_mode) == 0o600
        (runs[3].path / "connection.json").write_text('{"app": "thr')  # being written
        assert find("one").environment == {"RAY_ADDRESS": "127.0.0.1:1", "RAY_AUTH_MODE": "token"}
        with pytest.raises(SimshardError, match="several applications 'two' run here; name the address of one: 127"):
            find("two")
        with pytest.raises(SimshardError, match="runs an application 'three' here; running: one, two, two"):
            find("three")
        runs.pop(0).close()
        with pytest.raises(SimshardError, match="'one'"):
            find("one")
    finally:
        for folder in runs:
            folder.close()


def test_a_cluster_of_our_own_has_a_token_of_its_own(base):
    folder = RunFolder()
    try:
        previous = os.umask(0)
        try:
            variables = of_own_cluster(folder.path, "127.0.0.1")
        finally:
            os.umask(previous)
        path = Path(variables["RAY_AUTH_TOKEN_PATH"])
        assert path.parent == folder.path
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert len(path.read_text()) == 64
        assert variables["RAY_AUTH_MODE"] == "token"
    finally:
        folder.close()


def test_the_users_token_is_made_once_and_for_the_user_alone(tmp_path, monkeypatch):
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert write_token() == token_file() == tmp_path / ".ray/auth_token"
    assert stat.S_IMODE(token_file().stat().st_mode) == 0o600
    token = token_file().read_text()
    write_token()
    assert token_file().read_text() == token
    monkeypatch.setenv("HOME", "/dev/null")
    with pytest.raises(SimshardError, match=r"the token cannot be written .*; set RAY_AUTH_TOKEN_PATH"):
        write_token()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "localhost,127.0.0.1,::1,"),
        ("example.com,127.0.0.1", "example.com,127.0.0.1,localhost,::1,"),
        ("*", "*,localhost,127.0.0.1,::1,"),
    ],
)
def test_hosts_that_need_no_proxy_stay_and_this_machine_is_added(monkeypatch, before, after):
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("NO_PROXY", before)
    after += "169.254.169.254,metadata.google.internal"
    assert past_proxies() == {"no_proxy": after, "NO_PROXY": after}


def test_variables_of_another_cluster_are_known(monkeypatch):
    for name in foreign():
        monkeypatch.delenv(name)
    monkeypatch.setenv("RAY_ADDRESS", "x")
    monkeypatch.setenv("RAY_BACKEND_LOG_LEVEL", "error")
    assert foreign() == ["RAY_ADDRESS"]


@pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o644, True)])
def test_a_token_that_others_can_read_is_told(base, tmp_path, mode, warned):
    token = tmp_path / "token"
    token.write_text("ab" * 32)
    token.chmod(mode)
    env = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    env |= {"RAY_AUTH_TOKEN_PATH": str(token), "RAY_BACKEND_LOG_LEVEL": "fatal"}
    program = "from simshard.shards.ray_cluster import _use_token; import json, os; _use_token()\n"
    program += "print(json.dumps(os.environ['RAY_AUTH_MODE']))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, env=env)
    assert json.loads(done.stdout) == "token"
    assert ("chmod 600" in done.stderr) == warned
