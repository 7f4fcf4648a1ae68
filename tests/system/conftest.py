"""A second application on the session's cluster."""

import pytest

from tests.support.builder import write_store
from tests.support.server import Server, gcs_address, stop_all
from tests.support.session_store import MATRICES


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
