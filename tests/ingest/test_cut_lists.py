"""The best of each item: what `--top` leaves, and how its pairs are counted."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.ingest.build_pairs import IngestOptions, ingest
from simshard.shards.store import Store
from tests.support.builder import random_matrix, read_ids, read_matrix
from tests.support.pairs import expected
from tests.support.progress import QUIET


def cut(matrix, top):
    """What `--top` leaves: NaN but for the best of each row, ties by ascending row."""
    kept = np.full_like(matrix, np.nan)
    for row, scores in enumerate(matrix):
        there = np.flatnonzero(~np.isnan(scores))
        best = there[np.lexsort((there, -scores[there]))][:top]
        kept[row, best] = scores[best]
    return kept


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([None, "dense", "sparse"]), st.integers(1, 7), st.integers(1, 5))
def test_the_best_of_each_item(tmp_path_factory, data, directed, encoding, top, shards):
    scores = st.sampled_from([-1.0, 0.0, 0.25, 0.5, 1.0])
    pairs = data.draw(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), scores), min_size=1, max_size=80))
    if all(a == b for a, b, _ in pairs):
        return
    folder = tmp_path_factory.mktemp("top")
    (folder / "pairs.json").write_text(json.dumps(pairs))
    store = Store(folder / "store")
    options = IngestOptions(top=top, directed=directed, encoding=encoding, shards=shards, workers=1)
    manifest = ingest([str(folder / "pairs.json")], store, options, QUIET)
    ids, whole = expected(pairs, directed)
    kept = cut(whole, top)
    assert read_ids(store) == ids
    assert np.array_equal(read_matrix(store), kept, equal_nan=True)
    there, before = ~np.isnan(kept), ~np.isnan(whole)
    unique = there.sum() if directed else (there | there.T).sum() // 2
    found = before.sum() if directed else before.sum() // 2
    assert manifest.pairs == unique
    left = {"beyond_top_or_threshold": found - unique} if top < len(ids) - 1 else {}
    apart = [pair for pair in pairs if pair[0] != pair[1]]
    assert manifest.dropped == {"self_pairs": len(pairs) - len(apart), "duplicates": len(apart) - found} | left
    dense = 2 * there.sum() >= len(ids) * (len(ids) - 1)
    assert manifest.encoding == (encoding or ("dense" if dense else "sparse"))
    assert store.verify(manifest.name) == []
    files = {entry.name for entry in (store.snapshots / manifest.name).iterdir()}
    assert files == {info.file for info in manifest.files} | {"manifest.json"}


def test_the_best_of_rows_that_are_gathered_in_parts_of_a_batch(tmp_path):
    """Full rows of 700 items do not fit the memory 256 at a time; the best of them are written 256 at a time."""
    matrix = random_matrix(4, 700, density=0.97, levels=40)
    a, b = np.nonzero(~np.isnan(np.triu(matrix, 1)) & (np.arange(700)[:, None] < np.arange(700)))
    path = tmp_path / "pairs.parquet"
    pa.parquet.write_table(pa.table({"a": a, "b": b, "score": matrix[a, b]}), path)
    store = Store(tmp_path / "store")
    manifests = []
    for memory in (16 << 20, 512 << 20):
        options = IngestOptions(top=9, shards=2, memory=memory, workers=1)
        manifests.append(ingest([str(path)], store, options, QUIET))
        assert np.array_equal(read_matrix(store), cut(matrix, 9), equal_nan=True)
    assert manifests[0].shards == manifests[1].shards
    assert manifests[0].batch_rows == 256
