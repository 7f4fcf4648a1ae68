"""`simshard compute` through its pipeline, against plain per-pair Python."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simshard.ingest import feature_store, scoring_tasks, similarity
from simshard.ingest.build_catalogue import ComputeOptions, compute
from simshard.ingest.features import FeatureSpec
from simshard.shards.errors import InputError, StoreError
from simshard.shards.format import ShardReader
from simshard.shards.store import Store
from tests.support import scores
from tests.support.builder import read_matrix


class Silent:
    def phase(self, name, unit, total): ...

    def advance(self, units): ...


def write(folder, items, name="items.json"):
    path = folder / name
    path.write_text(json.dumps(items))
    return str(path)


def build(folder, items, specs, **options):
    """A store computed from items (dicts without id), in this process."""
    given = {"features": tuple(specs), "workers": 1, **options}
    path = write(folder, [{"id": i, **item} for i, item in enumerate(items)])
    store = Store(folder / "store")
    compute(path, store, ComputeOptions(**given), Silent())
    return store


def expected(items, specs):
    """The matrix by the oracle, float64 (N, N), NaN where there is no pair."""
    matrix = np.full((len(items), len(items)), np.nan)
    for a in range(len(items)):
        for b in range(a):
            value = scores.score(items, specs, items[a], items[b])
            matrix[a, b] = matrix[b, a] = np.nan if value is None else value
    return matrix


TERMS = st.sampled_from(["a", "b", "c", "d", "e e", "ff"])
CELLS = {
    "set": st.none() | st.lists(TERMS, max_size=5) | st.just(["UNKNOWN"]),
    "text": st.none() | st.lists(TERMS, max_size=4).map(", ".join) | st.sampled_from(["UNKNOWN", ""]),
    "whole": st.none() | st.integers(-5, 5) | st.sampled_from([2**62, -(2**62)]),
    "decimal": st.none() | st.floats(-1e3, 1e3),
    "category": st.none() | st.sampled_from(["TV", "Movie", "UNKNOWN", ""]),
    "vector": st.none() | st.lists(st.floats(-2, 2, width=16), min_size=3, max_size=3),
}
SPECS = st.lists(
    st.sampled_from(
        [
            FeatureSpec("set", "set"),
            FeatureSpec("set", "set", idf=True),
            FeatureSpec("text", "set", measure="jaccard"),
            FeatureSpec("text", "set", measure="jaccard", idf=True),
            FeatureSpec("whole", "number"),
            FeatureSpec("decimal", "number"),
            FeatureSpec("category", "category"),
            FeatureSpec("vector", "vector"),
        ]
    ),
    min_size=1,
    max_size=5,
    unique=True,
).flatmap(
    lambda specs: st.tuples(*(st.sampled_from([1.0, 0.2, 3, 1e-6, 1e4]) for _ in specs)).map(
        lambda weights: [replace(spec, weight=weight) for spec, weight in zip(specs, weights, strict=True)]
    )
)
ITEMS = st.lists(st.fixed_dictionaries(CELLS), min_size=2, max_size=9)


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(ITEMS, SPECS)
def test_every_mixture_equals_the_oracle(tmp_path_factory, items, specs):
    folder = tmp_path_factory.mktemp("compute")
    for spec in specs:
        if all(scores.similarity(items, spec, item, item) is None for item in items):
            with pytest.raises(InputError, match=r"missing in every item|no column|column 'vector' holds"):
                build(folder, items, specs)
            return
    matrix = expected(items, specs)
    if np.isnan(matrix).all():
        with pytest.raises(InputError, match="no two items have a feature in common"):
            build(folder, items, specs)
        return
    found = read_matrix(build(folder, items, specs))
    np.testing.assert_allclose(found, matrix, atol=2e-6, rtol=0)
    assert np.array_equal(found, found.T, equal_nan=True)


def catalogue(count, seed=0):
    """Items of all kinds of cells, some missing, many alike, so that scores tie."""
    rng = np.random.default_rng(seed)
    terms = [f"t{i}" for i in range(40)]
    items = []
    for _ in range(count):
        item = {
            "tags": rng.choice(terms, rng.integers(0, 6), replace=False).tolist(),
            "year": int(rng.integers(1990, 2000)),
            "rating": float(rng.integers(1, 11)) / 2,
            "type": str(rng.choice(["TV", "Movie", "OVA"])),
            "vector": (rng.integers(-2, 3, 8) / 2).tolist(),
        }
        items.append({name: value for name, value in item.items() if rng.random() > 0.1})
    return items


LARGE = catalogue(700)  # three rows of tiles, the last one not full
FEATURES = (
    FeatureSpec("tags", "set", 0.5, idf=True),
    FeatureSpec("year", "number", 0.2),
    FeatureSpec("vector", "vector", 0.2),
    FeatureSpec("type", "category", 0.1),
)


@cache
def large_matrix():
    """The matrix of LARGE as one shard, float32 (700, 700); kept from changes."""
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        matrix = read_matrix(build(Path(folder), LARGE, FEATURES, shards=1))
    matrix.flags.writeable = False
    return matrix


def test_a_large_one_equals_the_oracle_where_it_is_looked_at():
    matrix = large_matrix()
    rng = np.random.default_rng(1)
    for a, b in rng.integers(0, 700, (300, 2)).tolist():
        value = None if a == b else scores.score(LARGE, FEATURES, LARGE[a], LARGE[b])
        assert matrix[a, b] == pytest.approx(np.nan if value is None else value, abs=2e-6, nan_ok=True)
    assert np.array_equal(matrix, matrix.T, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [
        {"shards": 2},
        {"shards": 7},
        {"shards": 3, "workers": 2},
        {"shards": 1, "workers": 3},
        {"shards": 2, "memory": 16 << 20},
        {"shards": 5, "encoding": "sparse"},
        {"shards": 2, "encoding": "sparse", "memory": 16 << 20, "workers": 2},
        {"shards": 2, "score_threshold": -1.0},
    ],
    ids=str,
)
def test_the_matrix_does_not_depend_on_how_it_is_computed(tmp_path, options):
    store = build(tmp_path, LARGE, FEATURES, **options)
    assert np.array_equal(read_matrix(store), large_matrix(), equal_nan=True)
    assert store.verify(store.resolve()) == []


@pytest.mark.parametrize("encoding", ["dense", "sparse"])
def test_the_matrix_does_not_depend_on_where_blocks_are_kept(tmp_path, monkeypatch, encoding):
    monkeypatch.setattr(scoring_tasks, "_SCORE_BYTES", 1 << 30)  # no block fits in memory: pages of a file
    monkeypatch.setattr(scoring_tasks, "ENTRY_BYTES", 1 << 30)
    store = build(tmp_path, LARGE, FEATURES, encoding=encoding, memory=16 << 20)
    assert np.array_equal(read_matrix(store), large_matrix(), equal_nan=True)


def test_the_matrix_does_not_depend_on_how_weights_are_looked_up(tmp_path, monkeypatch):
    monkeypatch.setattr(similarity, "_MANY_KINDS", 1)
    assert np.array_equal(read_matrix(build(tmp_path, LARGE, FEATURES)), large_matrix(), equal_nan=True)


@given(st.lists(st.integers(0, 15), min_size=1, max_size=30), st.sampled_from([2, 20]))
def test_with_how_many_others_a_feature_is_shared(masks, summed):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(similarity, "_SUMMED", summed)
        found = similarity.shared_counts(np.array(masks, dtype=np.uint64), 4)
    right = [sum(bool(a & b) for j, b in enumerate(masks) if i != j) for i, a in enumerate(masks)]
    assert found.tolist() == right


@pytest.mark.parametrize("measure", ["cosine", "jaccard"])
@pytest.mark.parametrize("idf", [False, True])
def test_rare_terms_count_as_the_frequent_ones_do(tmp_path, monkeypatch, measure, idf):
    items = catalogue(60, seed=5)
    spec = FeatureSpec("tags", "set", measure=measure, idf=idf)
    monkeypatch.setattr(feature_store, "FREQUENT", 3)
    monkeypatch.setattr(similarity, "_RARE_CHUNK", 4)
    found = read_matrix(build(tmp_path, items, [spec]))
    np.testing.assert_allclose(found, expected(items, [spec]), atol=1e-6, rtol=0)


def kept(matrix, top=None, threshold=None):
    """What is stored of a matrix: all but the best `top` of each row, and what is below the threshold, NaN."""
    result = np.full_like(matrix, np.nan)
    for row, values in enumerate(matrix):
        there = np.flatnonzero(~np.isnan(values))
        if threshold is not None:
            there = there[values[there] >= np.float32(threshold)]
        there = there[np.lexsort((there, -values[there]))][:top]
        result[row, there] = values[there]
    return result


@pytest.mark.parametrize(
    "options",
    [
        {"top": 1},
        {"top": 5, "shards": 3},
        {"top": 5, "workers": 2},
        {"top": 5, "encoding": "dense"},
        {"top": 60, "memory": 16 << 20},
        {"top": 600},
        {"top": 699},
        {"top": 10_000},
        {"score_threshold": 0.7},
        {"score_threshold": 0.7, "workers": 3, "shards": 4},
        {"score_threshold": 0.2, "encoding": "sparse"},
        {"score_threshold": 0.75, "encoding": "dense"},
        {"score_threshold": 0.7, "top": 5},
        {"score_threshold": 0.3, "top": 650},
    ],
    ids=str,
)
def test_what_is_kept_is_the_best_of_the_whole(tmp_path, options):
    store = build(tmp_path, LARGE, FEATURES, **options)
    manifest = store.manifest()
    found = read_matrix(store)
    right = kept(large_matrix(), options.get("top"), options.get("score_threshold"))
    assert np.array_equal(found, right, equal_nan=True)
    there = ~np.isnan(right)
    assert manifest.pairs == np.triu(there | there.T).sum()
    assert sum(shard.entries for shard in manifest.shards) == there.sum()
    assert manifest.encoding == options.get("encoding", "dense" if 2 * there.sum() >= 700 * 699 else "sparse")
    for index, shard in enumerate(manifest.shards):
        reader = ShardReader(store.snapshots / manifest.name, manifest, index)
        for row in range(shard.row_start, shard.row_stop, 50):
            neighbors, values = reader.neighbors(row)
            best = np.flatnonzero(there[row])
            best = best[np.lexsort((best, -right[row, best]))]
            assert neighbors.tolist() == best.tolist()
            assert np.array_equal(values, right[row, best])


def test_top_keeps_the_right_ones_where_everything_ties(tmp_path):
    items = [{"type": "TV", "year": i} for i in range(600)]
    store = build(tmp_path, items, [FeatureSpec("type", "category")], top=3)
    found = read_matrix(store)
    for row, values in enumerate(found):
        assert np.flatnonzero(~np.isnan(values)).tolist() == [other for other in range(4) if other != row][:3]


def test_items_alike_in_all_they_have_score_exactly_one(tmp_path):
    cells = {"tags": ["a", "b", "c"], "year": 2001, "rating": 7.7, "type": "TV"}
    items = [cells, cells, {**cells, "tags": None}, {"tags": ["z"], "year": 1990, "rating": 1.1, "type": "OVA"}]
    specs = [
        FeatureSpec("tags", "set", 0.6),
        FeatureSpec("rating", "number", 0.2),
        FeatureSpec("year", "number", 0.15),
        FeatureSpec("type", "category", 0.05),
    ]
    found = read_matrix(build(tmp_path, items, specs))
    assert found[0, 1] == found[0, 2] == found[1, 2] == 1.0
    assert found[0, 3] == 0.0


def test_a_snapshot_that_no_disk_holds_is_refused_at_once(tmp_path, monkeypatch):
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(StoreError, match=r"0\.0 GB are free; keep fewer scores with --top or --score-threshold"):
        build(tmp_path, LARGE, FEATURES)
    assert not list((tmp_path / "store" / "snapshots").iterdir())
    assert not list((tmp_path / "store" / "staging").iterdir())


def test_no_score_reaches_the_threshold(tmp_path):
    with pytest.raises(InputError, match="no score reaches --score-threshold 2"):
        build(tmp_path, LARGE, FEATURES, score_threshold=2.0)
    with pytest.raises(InputError, match="no score reaches --score-threshold 2"):
        build(tmp_path, LARGE, FEATURES, score_threshold=2.0, top=3)
