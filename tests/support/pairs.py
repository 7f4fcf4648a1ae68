"""Pairs, and the dictionary and matrix that a build of them must equal."""

import numpy as np

from simshard.ingest.build_pairs import IngestOptions
from tests.support.builder import read_ids, read_matrix

INLINE = IngestOptions(workers=1)


def expected(pairs, directed=False, items=()):
    """Ids in row order and the matrix, the last of repeated pairs winning."""
    scores = {}
    for a, b, score in pairs:
        if a != b:
            scores[a, b] = np.float32(score)
            if not directed:
                scores[b, a] = np.float32(score)
    rest = sorted(
        {id_ for a, b, _ in pairs for id_ in (a, b)} - set(items), key=lambda i: i.encode() if isinstance(i, str) else i
    )
    ids = [*items, *rest]
    rows = {id_: row for row, id_ in enumerate(ids)}
    matrix = np.full((len(ids), len(ids)), np.nan, dtype=np.float32)
    for (a, b), score in scores.items():
        matrix[rows[a], rows[b]] = score
    return ids, matrix


def check(store, pairs, **options):
    ids, matrix = expected(pairs, **options)
    assert read_ids(store) == ids
    assert np.array_equal(read_matrix(store), matrix, equal_nan=True)


PAIRS = [(3, 1, 0.5), (1, 2, 0.25), (2, 2, 1.0), (7, 3, -0.125), (1, 3, 0.75), (2, 7, 1)]
