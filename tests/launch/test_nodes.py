"""What is said of the nodes of a cluster; tests/system/test_hosts.py asks real ones."""

import platform
from importlib import metadata

import pytest

from simshard.serve.launch.nodes import check_guarded, missing, serve_host
from simshard.serve.launch.ray_environment import COSTS, of_node
from simshard.shards.errors import SimshardError
from simshard.shards.ray_nodes import Node, check_seen, check_versions, look


def node(number=1, **changes):
    """A node that was started as `simshard env` says."""
    here = look([], [])
    known = {"address": f"10.0.0.{number}", "versions": here["versions"], "environment": of_node(), "sizes": {}}
    return Node(**{**known, **changes})


def test_a_node_says_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("four")
    monkeypatch.setenv("RAY_X", "1")
    monkeypatch.setenv("SIMSHARD_Y", "2")
    monkeypatch.setenv("SIMSHARD_API_KEY", "secret")
    told = look([str(tmp_path / "file"), str(tmp_path / "none")], ["RAY_X", "SIMSHARD_Y", "RAY_Z"])
    assert told["sizes"] == {str(tmp_path / "file"): 4, str(tmp_path / "none"): None}
    assert told["versions"]["Python"] == platform.python_version()
    assert told["versions"]["simshard"] == metadata.version("simshard")
    assert told["environment"] == {"RAY_X": "1", "SIMSHARD_Y": "2"}


@pytest.mark.parametrize("name", ["Python", "Ray", "simshard"])
def test_another_version_is_refused_by_node_and_version(name):
    versions = look([], [])["versions"]
    check_versions([node(1), node(2)])
    with pytest.raises(
        SimshardError, match=rf"^node 10\.0\.0\.2 has {name} 0\.0\.1, this command {name} {versions[name]};"
    ):
        check_versions([node(1), node(2, versions={**versions, name: "0.0.1"})])
    with pytest.raises(SimshardError, match=rf"^node 10\.0\.0\.2 has no {name}, "):
        check_versions([node(1), node(2, versions={**versions, name: None})])


def test_a_file_that_is_not_seen_is_told_by_node_and_path(tmp_path):
    path = tmp_path / "current.json"
    path.write_text("four")
    check_seen([node(1, sizes={str(path): 4})], path, "the store")
    nodes = [node(1, sizes={str(path): 4}), node(2, sizes={str(path): None}), node(3, sizes={str(path): 5})]
    with pytest.raises(
        SimshardError, match=r"^nodes 10\.0\.0\.2, 10\.0\.0\.3 of the cluster: the store is not seen there"
    ):
        check_seen(nodes, path, "the store")


def test_who_may_reach_a_cluster():
    loopback = node(1, address="127.0.0.1", environment={})
    check_guarded([loopback], None, trusted=False)
    check_guarded([node(1)], "k3y", trusted=False)
    for trusted in (False, True):
        with pytest.raises(SimshardError, match=r"can be reached from other machines .*SIMSHARD_API_KEY"):
            check_guarded([loopback, node(1)], None, trusted)
    open_ = node(2, environment={**of_node(), "RAY_AUTH_MODE": "disabled"})
    with pytest.raises(SimshardError, match=r"^node 10\.0\.0\.2 of the cluster: Ray runs there without token"):
        check_guarded([node(1), open_], "k3y", trusted=False)
    check_guarded([node(1), open_], "k3y", trusted=True)


def test_a_variable_that_is_missing_is_told_with_its_cost():
    assert missing([node(1), node(2)]) == []
    for name, (value, cost) in COSTS.items():
        without = {other: told for other, told in of_node().items() if other != name}
        wrong = without if value is None else {**without, name: "7"}
        (line,) = missing([node(1), node(2, environment=without), node(3, environment=wrong)])
        wanted = name if value is None else f"{name}={value}"
        assert line.startswith(f"nodes 10.0.0.2, 10.0.0.3 of the cluster: no {wanted}: {cost}; ")
    plain = missing([node(1, environment={})])
    assert len(plain) == len([name for name in COSTS if not name.startswith("RAY_SERVE_HAPROXY")])


def test_what_serve_is_told_as_its_host():
    assert serve_host([node(1), node(2)], "127.0.0.1") == "0"
    assert serve_host([node(1), node(2)], "0.0.0.0") == "0.0.0.0"
    for host in ("::", "::1", "10.0.0.1", "example.com"):
        with pytest.raises(SimshardError, match=rf"host {host}: every node answers on a cluster; say --host 0"):
            serve_host([node(1), node(2)], host)
    python_proxy = node(1, environment={})
    assert serve_host([python_proxy], "10.0.0.1") == "10.0.0.1"
    alone = node(1, address="127.0.0.1")
    assert [serve_host([alone], host) for host in ("127.0.0.1", "0.0.0.0")] == ["127.0.0.1", "0.0.0.0"]
    ours = node(1, address="127.0.0.1", environment={**of_node(), "SIMSHARD_FRONT_END_HOST": "0.0.0.0"})
    assert serve_host([ours], "0.0.0.0") == "127.0.0.1"
    with pytest.raises(SimshardError, match=r"the front end of this cluster listens on 0\.0\.0\.0; say it with --host"):
        serve_host([ours], "127.0.0.1")
    bare = node(2, environment={**of_node(), "RAY_SERVE_HAPROXY_BINARY_PATH": "/usr/sbin/haproxy"})
    assert serve_host([node(1), bare], "0.0.0.0") == "0.0.0.0"
    with pytest.raises(SimshardError, match=r"node 10\.0\.0\.2 runs HAProxy without simshard-haproxy"):
        serve_host([node(1), bare], "127.0.0.1")
