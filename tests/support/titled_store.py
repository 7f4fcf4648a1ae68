"""A small store whose items have a title and a number."""

import pyarrow as pa

from tests.support.builder import random_matrix, write_store

MATRIX = random_matrix(2, 20)


def write_titled(folder):
    titles = pa.array([f"Title {row}" for row in range(20)])
    numbers = pa.array(range(20), pa.int64())
    return write_store(folder, MATRIX, attributes={"title": titles, "n": numbers})
