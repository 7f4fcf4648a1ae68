"""`simshard env` and `simshard cluster check`, as a newcomer meets them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from simshard.cli.main import app
from tests.support.command import command

ROOT = Path(__file__).resolve().parents[2]
PLACEHOLDERS = {
    "<HEAD_ADDRESS>": "10.0.0.1",
    "<WORKER_ADDRESS_1>": "10.0.0.2",
    "<WORKER_ADDRESS_2>": "10.0.0.3",
    "<SSH_USER>": "me",
    "<SSH_KEY>": "key",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with a filled cluster.yaml and all that it names; a home with a token."""
    home = tmp_path / "home"
    (home / ".ray").mkdir(parents=True)
    token = home / ".ray/auth_token"
    token.write_text("ab" * 32)
    token.chmod(0o600)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    text = (ROOT / "cluster.yaml").read_text()
    for name, value in PLACEHOLDERS.items():
        text = text.replace(name, value)
    folder = tmp_path / "project"
    (folder / "wheelhouse").mkdir(parents=True)
    (folder / "key").write_text("")
    (folder / "cluster.yaml").write_text(text)
    monkeypatch.chdir(folder)
    return folder


def check(code=0, file="cluster.yaml"):
    result = CliRunner().invoke(app, ["cluster", "check", str(file)])
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


def test_a_file_that_can_be_used(project):
    assert check() == "cluster.yaml: can be used; start the cluster with: ray up cluster.yaml"


def test_placeholders_that_are_left_are_named_with_their_places(project):
    told = check(1, ROOT / "cluster.yaml")
    for name, place in (
        ("<HEAD_ADDRESS>", "provider.head_ip"),
        ("<WORKER_ADDRESS_2>", "provider.worker_ips[1]"),
        ("<SSH_USER>", "auth.ssh_user"),
        ("<SSH_KEY>", "auth.ssh_private_key"),
        ("<HEAD_ADDRESS>", "head_start_ray_commands[1]"),
    ):
        assert f"{name} ({place})" in told
    for name in ("aws", "gcp"):
        assert "replace these placeholders: <" in check(1, ROOT / f"deploy/{name}.yaml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cluster_name: simshard", "cluster_name: 3", "cluster_name: 3 is not of type 'string'"),
        ("head_ip: 10.0.0.1", "head_address: 10.0.0.1", "Please supply a `head_ip`"),
        ("provider:", "provder:", "provider"),
        ("wheelhouse: wheelhouse", "wheelhouse: nowhere", "not there: nowhere; see the steps"),
        ("ssh_private_key: key", "ssh_private_key: ~/none", "not there: ~/none"),
        ("setup_commands:", "setup_commands: [", "not YAML"),
    ],
)
def test_a_file_that_the_launcher_would_refuse(project, old, new, words):
    text = (project / "cluster.yaml").read_text()
    assert old in text
    (project / "cluster.yaml").write_text(text.replace(old, new, 1))
    assert words in check(1)


def test_other_files(project):
    assert "none.yaml: cannot be read" in check(1, "none.yaml")
    (project / "list.yaml").write_text("- 1")
    assert "a mapping is needed" in check(1, "list.yaml")


def test_a_token_that_others_can_read(project):
    token = project.parent / "home/.ray/auth_token"
    token.chmod(0o644)
    assert f"chmod 600 {token}" in check(1)
    token.unlink()
    assert "not there: ~/.ray/auth_token" in check(1)


def env(*arguments):
    done = subprocess.run(command("env", *arguments), check=True, capture_output=True, text=True)
    return done.stdout, done.stderr


def test_the_export_lines_are_understood_by_a_shell(project):
    told, errors = env()
    assert errors == ""
    lines = told.splitlines()
    assert all(re.fullmatch(r"export [A-Za-z_0-9]+=\S+", line) for line in lines)
    shown = subprocess.run(["sh", "-ec", f"{told}\nenv"], check=True, capture_output=True, text=True, env={}).stdout
    variables = dict(line.split("=", 1) for line in shown.splitlines())
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_SERVE_HAPROXY_STATS_PORT"] == "8404"
    if sys.platform == "linux":
        assert variables["RAY_SERVE_ENABLE_HA_PROXY"] == "1"
        assert Path(variables["RAY_SERVE_HAPROXY_BINARY_PATH"]).name == "simshard-haproxy"
    assert env() == (told, "")  # fixed ports and folders


def test_a_token_is_made_where_it_is_asked_for(project):
    token = project.parent / "home/.ray/auth_token"
    token.unlink()
    _, errors = env()
    assert "no token yet; make one with simshard env --make-token" in errors
    assert not token.exists()
    env("--make-token")
    assert token.stat().st_mode & 0o777 == 0o600
    assert env()[1] == ""


def test_yaml_is_what_cluster_yaml_does_with_the_variables_in_it(project):
    config = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    ours = yaml.safe_load(env("--yaml")[0])
    exports = env()[0].splitlines()
    for name in ("head_start_ray_commands", "worker_start_ray_commands"):
        (stop, start), (our_stop, our_start) = config[name], ours[name]
        assert our_stop == stop == "ray stop"
        careful, limit, make, *lines, ray = our_start.splitlines()
        assert careful == "set -e"
        assert re.fullmatch(r"install -d -m 700( /\S+){3}", make)
        assert lines == exports
        before, after = start.split(' variables=$(simshard env) && eval "$variables" && ')
        assert limit == before.removesuffix(";")
        assert shlex.split(ray.replace("$", "")) == shlex.split(after.replace("$", ""))


def test_what_does_not_go_together(project):
    result = CliRunner().invoke(app, ["env", "--app", "simshard", "--yaml"])
    assert result.exit_code == 2
