"""The store that tests of the API ask: its ids are text, some of which fit no path."""

import numpy as np

from tests.support.builder import random_matrix

ITEMS = 30
MATRIX = random_matrix(7, ITEMS, density=0.8)
IDS = [*(f"id {row}" for row in range(ITEMS - 2)), "a/b?c#d%", "é"]


def printed(hits):
    return [(IDS.index(hit["id"]), np.float32(hit["score"])) for hit in hits]
