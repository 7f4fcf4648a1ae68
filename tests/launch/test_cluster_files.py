"""The files for Ray's cluster launcher: as the launcher itself reads them, and their commands as it runs them."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
LOCAL = "cluster.yaml"
CLOUDS = ["deploy/aws.yaml", "deploy/gcp.yaml"]
FILES = [LOCAL, *CLOUDS]
WORKERS = 2
PLACEHOLDER = re.compile(r"<[A-Z][A-Z0-9_]*>")
PLAUSIBLE = {
    **{"<HEAD_ADDRESS>": "10.0.0.1", "<WORKER_ADDRESS_1>": "10.0.0.2", "<WORKER_ADDRESS_2>": "10.0.0.3"},
    **{"<SSH_USER>": "ubuntu", "<PLACEHOLDER>": "what a comment calls them"},
    **{"<REGION>": "us-east-1", "<ZONE>": "us-east-1a", "<AMI_ID>": "ami-0123456789abcdef0"},
    **{"<SECURITY_GROUP_ID>": "sg-0123456789abcdef0", "<FILE_SYSTEM_ID>": "fs-0123456789abcdef0"},
    **{"<PROJECT_ID>": "project-1", "<FILESTORE_ADDRESS>": "10.1.0.2", "<FILE_SHARE>": "share"},
}


def texts(value):
    """Every text among the values of a document."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in texts(each)]
    return [value] if isinstance(value, str) else []


def filled(name, folder):
    """A file as its user would have it; `folder` gets the key that it names."""
    key = folder / "key"
    key.write_text("a key")
    values = {**PLAUSIBLE, "<SSH_KEY>": str(key)}
    return yaml.safe_load(PLACEHOLDER.sub(lambda found: values[found[0]], (ROOT / name).read_text()))


def prepared(name, folder):
    """A file as the launcher has it once its defaults are filled in and its schema checked. No cloud is asked."""
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = prepare_config(filled(name, folder))
    validate_config(config)
    return config


def start_commands(config):
    return {kind: config[f"{kind}_start_ray_commands"] for kind in ("head", "worker")}  # each to stop, then to start


def run(command, home, variables):
    """Run a command as the launcher has a machine run it, in a shell that it logs in to; what it prints."""
    from ray.autoscaler._private.command_runner import _with_interactive
    from ray.autoscaler._private.util import with_envs

    (command,) = with_envs([command], variables)
    done = subprocess.run(
        ["sh", "-c", " ".join(_with_interactive(command))],  # ssh joins them, the user's shell there takes them apart
        check=False,
        env={"HOME": str(home), "PATH": os.environ["PATH"]},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        start_new_session=True,  # else an interactive shell takes the terminal from the tests
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def home(tmp_path):
    """The home of a machine's user, with programs in simshard's environment that only tell how they were called."""
    programs = {
        "ray": 'echo "ray $*; two words=$TWO_WORDS; v2=$RAY_enable_autoscaler_v2"',
        "simshard": "echo \"export TWO_WORDS='a b'\"",
    }
    folder = tmp_path / "home/.simshard/venv/bin"
    folder.mkdir(parents=True)
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return tmp_path / "home"


@pytest.mark.parametrize("name", FILES)
def test_the_launcher_takes_it(name, tmp_path):
    config = prepared(name, tmp_path)
    types = config["available_node_types"].values()
    assert sum(each["min_workers"] for each in types) == WORKERS == config["max_workers"]


@pytest.mark.parametrize("name", CLOUDS)
def test_no_command_of_the_launcher_itself_is_left(name, tmp_path):
    """Its defaults install a Ray of their own."""
    config = prepared(name, tmp_path)
    commands = {text for key, value in config.items() if key.endswith("_commands") for text in value}
    assert commands <= set(texts(filled(name, tmp_path)))


@pytest.mark.parametrize("name", FILES)
def test_every_placeholder_is_found(name):
    text = (ROOT / name).read_text()
    in_angles = set(re.findall(r"<[^<>\s]*>", text))
    assert in_angles == set(PLACEHOLDER.findall(text)), "one that `simshard cluster check` would not find"
    in_values = {found for each in texts(yaml.safe_load(text)) for found in PLACEHOLDER.findall(each)}
    assert in_values == in_angles - {"<PLACEHOLDER>"}, "one that only a comment names"


def test_start_commands(tmp_path):
    ports = {}
    for kind, (stop, start) in start_commands(filled(LOCAL, tmp_path)).items():
        assert stop == "ray stop"
        assert ("--head " in start) == ("--autoscaling-config=~/ray_bootstrap_config.yaml" in start) == (kind == "head")
        assert ("--address=$RAY_HEAD_IP:6379" in start) == (kind == "worker")
        ports[kind] = set(re.findall(r"--[a-z-]*port=\d+", start))
    assert len(ports["head"]) == 9 and ports["worker"] == ports["head"] - {"--port=6379"}


@pytest.mark.parametrize("name", CLOUDS)
def test_clouds_do_as_cluster_yaml_does(name, tmp_path):
    local, cloud = filled(LOCAL, tmp_path), filled(name, tmp_path)
    assert cloud["file_mounts"] == local["file_mounts"]
    assert cloud["setup_commands"][-len(local["setup_commands"]) :] == local["setup_commands"]
    assert cloud["worker_start_ray_commands"] == local["worker_start_ray_commands"]
    start = local["head_start_ray_commands"][1]
    for only_local in ("RAY_enable_autoscaler_v2=0 ", "--node-ip-address=10.0.0.1 "):
        assert only_local in start
        start = start.replace(only_local, "")
    assert cloud["head_start_ray_commands"] == ["ray stop", start]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("profile", [".profile", ".bash_profile"])
def test_login_shells_find_ray_and_the_variables_reach_it(name, profile, tmp_path, home):
    """`ray down` runs `ray stop` in such a shell."""
    (home / profile).touch()
    config = filled(name, tmp_path)
    (on_path,) = [each for each in config["setup_commands"] if "PATH" in each]
    for _ in range(2):  # as `ray up` does, the second time for a cluster that is there
        run(on_path, home, {})
    assert (home / profile).read_text().count("simshard") == 1
    environment = {"RAY_enable_autoscaler_v2": 1, "RAY_HEAD_IP": "10.0.0.1"}  # as the launcher gives it
    for kind, (stop, start) in start_commands(config).items():
        assert run(stop, home, environment).startswith("ray stop;")
        told = run(start, home, environment)
        assert told.startswith("ray start --") and "; two words=a b;" in told and "\nray" not in told
        if kind == "worker":
            assert "--address=10.0.0.1:6379 " in told
        elif name == LOCAL:
            assert "v2=0\n" in told


def launched(config):
    """How many machines version 2 of Ray's autoscaler starts for a prepared file, with its head running."""
    from ray.autoscaler.v2.instance_manager.config import AutoscalingConfig
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest
    from ray.autoscaler.v2.schema import AutoscalerInstance
    from ray.core.generated.autoscaler_pb2 import NodeState
    from ray.core.generated.instance_manager_pb2 import Instance, NodeKind

    v2 = AutoscalingConfig(config, skip_content_hash=True)
    of_head = {"instance_type": v2.get_head_node_type(), "node_kind": NodeKind.HEAD, "status": Instance.RAY_RUNNING}
    head = AutoscalerInstance("head", NodeState(), Instance(instance_id="head", node_id="head", **of_head))
    request = SchedulingRequest(
        disable_launch_config_check=v2.disable_launch_config_check(),
        node_type_configs=v2.get_node_type_configs(),
        max_num_nodes=v2.get_max_num_nodes(),
        current_instances=[head],
    )
    return sum(each.count for each in ResourceDemandScheduler().schedule(request).to_launch)


def test_version_2_of_the_autoscaler_leaves_one_worker_out(tmp_path):
    """Why cluster.yaml has RAY_enable_autoscaler_v2=0: the head is one of min_workers there."""
    assert launched(prepared(LOCAL, tmp_path)) == WORKERS - 1, (
        "Ray's autoscaler no longer counts the head as a worker: RAY_enable_autoscaler_v2=0 can go from cluster.yaml, "
        "cli/env.py and this file"
    )


@pytest.mark.parametrize("name", CLOUDS)
def test_version_2_of_the_autoscaler_starts_all_where_the_head_is_of_its_own_type(name, tmp_path):
    assert launched(prepared(name, tmp_path)) == WORKERS


def test_version_1_of_the_autoscaler_starts_all(tmp_path):
    from ray.autoscaler._private.resource_demand_scheduler import _add_min_workers_nodes

    config = prepared(LOCAL, tmp_path)
    kind, types = config["head_node_type"], config["available_node_types"]
    *_, added = _add_min_workers_nodes([], {kind: 1}, types, config["max_workers"], kind, [], None)
    assert added == {kind: WORKERS}
