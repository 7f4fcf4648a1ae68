"""A world for every encoding and number of shards."""

import pytest

from tests.support.cases import CASES
from tests.support.worlds import World


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    return {case: World(tmp_path_factory.mktemp("world"), *case, number) for number, case in enumerate(CASES)}
