"""Pairs in Parquet files: every type, any row groups, any parallelism."""

import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from simshard.ingest.build_pairs import IngestOptions, ingest
from simshard.shards.store import Store
from tests.support.builder import read_matrix
from tests.support.pairs import INLINE, PAIRS, check
from tests.support.progress import QUIET


def write_parquet(path, pairs, names=("a", "b", "score"), types=(None, None, None), **options):
    columns = zip(*pairs, strict=True)
    arrays = [pa.array(column, type_) for column, type_ in zip(columns, types, strict=True)]
    pa.parquet.write_table(pa.table(dict(zip(names, arrays, strict=True))), path, **options)


WIDTHS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
TEXTS = [pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())]
NUMBERS = [pa.float16(), pa.float32(), pa.float64(), pa.decimal128(9, 4), pa.decimal256(40, 5), pa.int8(), pa.uint64()]


@pytest.mark.parametrize(
    "types", [*((w, w, pa.float32()) for w in WIDTHS), *((pa.int8(), pa.uint64(), n) for n in NUMBERS)]
)
def test_parquet_of_integer_ids(tmp_path, types):
    pairs = [(a, b, Decimal(s).quantize(Decimal("0.001"))) for a, b, s in PAIRS]
    if not pa.types.is_decimal(types[2]):
        pairs = [(a, b, int(s * 8)) if pa.types.is_integer(types[2]) else (a, b, s) for a, b, s in PAIRS if s > 0]
    if pa.types.is_float16(types[2]):
        pairs = [(a, b, np.float16(s)) for a, b, s in pairs]
    write_parquet(tmp_path / "pairs.parquet", pairs, types=types)
    store = Store(tmp_path / "store")
    ingest([str(tmp_path / "pairs.parquet")], store, INLINE, QUIET)
    check(store, [(a, b, float(s)) for a, b, s in pairs])


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
def test_parquet_of_text_ids_in_other_columns(tmp_path, kind, other):
    pairs = [(f"é{a}", f"é{b}", s) for a, b, s in PAIRS]
    names = ("source", "target", "weight")
    write_parquet(tmp_path / "pairs.PARQUET", pairs, names, (kind, other, pa.float64()), row_group_size=2)
    store = Store(tmp_path / "store")
    manifest = ingest([str(tmp_path / "pairs.PARQUET")], store, INLINE, QUIET)
    check(store, pairs)
    assert manifest.dropped == {"self_pairs": 1, "duplicates": 1}
    write_parquet(tmp_path / "left", pairs, ("score.a", "score", "x y"))
    options = IngestOptions(fields=("score.a", "score", "x y"), format="parquet", workers=1)
    ingest([str(tmp_path / "left")], store, options, QUIET)
    check(store, pairs)


def test_parquet_and_json_in_argument_order(tmp_path):
    first, second, third = (str(tmp_path / name) for name in ("a.parquet", "b.json", "c.parquet"))
    write_parquet(first, PAIRS)
    (tmp_path / "b.json").write_text(json.dumps([(3, 1, 9.5), (1, 2, 9.5)]))
    write_parquet(third, [(2, 1, 8.5)])
    store = Store(tmp_path / "store")
    ingest([first, second, third], store, INLINE, QUIET)
    check(store, [*PAIRS, (3, 1, 9.5), (1, 2, 9.5), (2, 1, 8.5)])
    ingest([third, second, first], store, INLINE, QUIET)
    check(store, PAIRS)


@pytest.mark.parametrize("at_once", [64, 1])
@pytest.mark.parametrize("rows", [1_000, 100_000, 400_000])
def test_parquet_in_row_groups_of_any_size_and_any_parallelism(tmp_path, monkeypatch, rows, at_once):
    """With 16 MB a spill has some 52,000 records; a larger row group makes several, or is read by the build itself."""
    monkeypatch.setattr("simshard.ingest.spills._SPILLS_AT_ONCE", at_once)
    rng = np.random.default_rng(rows)
    count = 400_000 if rows > 1_000 else 120_000
    a, b = rng.integers(0, 300, (2, count))
    scores = rng.random(count).astype(np.float32)
    path = tmp_path / "pairs.parquet"
    pa.parquet.write_table(pa.table({"a": a, "b": b, "score": scores}), path, row_group_size=rows)
    matrix = np.full((300, 300), np.nan, dtype=np.float32)
    apart = a != b
    both = np.stack((a, b), axis=1)[apart].reshape(-1), np.stack((b, a), axis=1)[apart].reshape(-1)
    matrix[both] = scores[apart].repeat(2)
    store = Store(tmp_path / "store")
    parallel = 2 if rows == 100_000 and at_once > 1 else 1
    ingest([str(path)], store, IngestOptions(workers=parallel, memory=parallel * (16 << 20)), QUIET)
    assert np.array_equal(read_matrix(store), matrix, equal_nan=True)
