"""A store of items with text ids, a service of it, and a client that asks this service over HTTP."""

import pyarrow as pa
import pytest

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.shards.store import Snapshot
from tests.support.api_client import client_of
from tests.support.api_store import IDS, ITEMS, MATRIX
from tests.support.builder import write_store
from tests.support.tables import POOL


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    ids = pa.array(IDS)
    titles = pa.array([f"Title {row}" if row else None for row in range(ITEMS)])
    years = pa.array([2000 + row % 10 for row in range(ITEMS)], pa.int64())
    kinds = pa.array(["TV", "Movie", None] * (ITEMS // 3))
    attributes = {"title": titles, "year": years, "kind": kinds}
    return write_store(tmp_path_factory.mktemp("api"), MATRIX, ids=ids, attributes=attributes)


@pytest.fixture
def service(store):
    service = Service(Cache(Lru(1 << 20), None), POOL)
    service.serve(local_table(Snapshot(store), POOL))
    return service


@pytest.fixture
async def client(service, store):
    async with client_of(service, store) as client:
        yield client
