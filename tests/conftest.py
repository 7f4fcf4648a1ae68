"""One Ray cluster for the whole session: `simshard serve` as a process, which other tests join."""

import os
import shutil
import tempfile
from types import SimpleNamespace

import pytest
from hypothesis import settings

from tests.support.builder import write_store
from tests.support.hosts import Hosts, cannot
from tests.support.server import Server, folders, stop_all
from tests.support.session_store import MATRICES
from tests.support.skips import skip_unless_ci

# No test is a measurement: how long an example takes says more of the machine.
settings.register_profile("simshard", deadline=None)
settings.load_profile("simshard")


def pytest_configure(config):
    """Keep the run folders of tests apart from those of a server that runs on this machine for somebody."""
    config.run_dir = tempfile.mkdtemp(prefix="ss-", dir="/tmp")
    os.environ["SIMSHARD_RUN_DIR"] = config.run_dir


def pytest_unconfigure(config):
    shutil.rmtree(config.run_dir, ignore_errors=True)


def pytest_collection_modifyitems(items):
    """What ends the session's cluster, and what starts others, comes last."""
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory):
    """A running server of a small store, and the run folder of its cluster."""
    store = write_store(tmp_path_factory.mktemp("cluster") / "store", MATRICES[0], shards=3)
    before = folders()
    server = Server(store.root)
    (folder,) = folders() - before
    yield SimpleNamespace(server=server, store=store, folder=folder)
    stop_all(server)


@pytest.fixture(scope="session")
def hosts(tmp_path_factory):
    """Three hosts out of network namespaces, set up once a run."""
    if reason := cannot():
        skip_unless_ci(reason)
    made = Hosts(tmp_path_factory.mktemp("bench"))
    yield made
    made.close()
