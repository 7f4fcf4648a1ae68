"""Every fault of Parquet pairs: one sentence with file and place, exit code 1, nothing published."""

import io
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from simshard.cli.main import app
from tests.support.refused_pairs import RUNNER, refuse


def refuse_parquet(tmp_path, table, *options, name="pairs.parquet", **written):
    sink = io.BytesIO()
    pq.write_table(table, sink, **written)
    return refuse(tmp_path, sink.getvalue(), *options, name=name)


def columns(a=(1, 2, 3), b=(2, 3, 4), score=(0.5, 0.25, 1.0), **more):
    return pa.table({"a": a, "b": b, "score": score, **more})


ROWS = [
    (columns(a=pa.array([1, None, 3])), "record 2: id 'a' is null"),
    (columns(b=pa.array([1, 2, None], pa.uint64())), "record 3: id 'b' is null"),
    (columns(score=pa.array([1.0, None, 3.0])), "record 2: score 'score' is null, not a number"),
    (columns(score=pa.array([1, None, 3])), "record 2: score 'score' is null, not a number"),
    (columns(score=[0.5, 0.5, float("nan")]), "record 3: score 'score' is nan, which is not a finite float32"),
    (columns(score=pa.array([float("-inf"), 1, 1], pa.float32())), "record 1: score 'score' is -inf, which is not"),
    (columns(score=[0.5, 1e39, 0.5]), "record 2: score 'score' is 1e+39, which is not a finite float32"),
    (columns(score=pa.array([Decimal(10) ** 60] * 3)), "record 1: score 'score' is 1e+60, which is not a finite"),
    (columns(a=pa.array([1, 2**63, 2], pa.uint64())), "record 2: id 'a' is 9223372036854775808, which does not fit"),
    (columns(a=["x", "", "y"], b=["z"] * 3), "record 2: id 'a' is empty text"),
    (columns(a=["x", None, "y"], b=["z"] * 3), "record 2: id 'a' is null"),
    (columns(a=pa.array(["x", None, "y"]).dictionary_encode(), b=["z"] * 3), "record 2: id 'a' is null"),
    (columns(a=pa.nulls(3), b=["z"] * 3), "record 1: id 'a' is null"),
    (columns(a=pa.nulls(3), b=pa.nulls(3)), "record 1: id 'a' is null"),
    (columns(score=pa.nulls(3)), "record 1: score 'score' is null"),
    (columns(a=[1.0, 2.0, 3.0]), "column 'a' has type double; ids are integers or text"),
    (columns(b=[b"x", b"y", b"z"]), "column 'b' has type binary; ids are integers or text"),
    (columns(b=[[1], [2], [3]]), "column 'b' has type list<"),
    (columns(b=[True, False, True]), "column 'b' has type bool; ids are integers or text"),
    (columns(score=["0.5", "x", "y"]), "column 'score' has type string; scores are numbers"),
    (columns(score=[True, False, True]), "column 'score' has type bool; scores are numbers"),
    (columns(b=["x", "y", "z"]), "column 'a' holds integers, but 'b' holds text; the ids of a build are alike"),
    (columns().drop_columns("score"), "the columns are a, b, which are none of those known (a,b,score; "),
    (columns().slice(0, 0), "empty; there are no pairs to build from"),
    (columns(a=[1, 2, 3], b=[1, 2, 3]), "no pairs of two different items"),
    (
        pa.Table.from_arrays([*columns().columns, columns()["a"]], names=["a", "b", "score", "a"]),
        "two columns are named",
    ),
]


@pytest.mark.parametrize(("table", "reason"), ROWS)
def test_faults_of_parquet(tmp_path, table, reason):
    assert reason in refuse_parquet(tmp_path, table)


def test_the_record_of_a_fault_in_a_later_row_group(tmp_path):
    scores = np.full(200_000, 0.5, dtype=np.float32)
    scores[123_456] = np.nan
    table = pa.table({"a": np.arange(200_000), "b": np.arange(200_000) + 1, "score": scores})
    for rows in (500, 70_000, 200_000):
        message = refuse_parquet(tmp_path, table, "--memory", "16MB", row_group_size=rows)
        assert "record 123457: score 'score' is nan" in message


def test_text_in_parquet_that_is_not_utf8(tmp_path):
    bad = pa.array([b"x", b"y\xff", b"z"]).view(pa.string())
    assert "record 2: an id is not UTF-8 text" in refuse_parquet(tmp_path, columns(a=bad, b=["u", "v", "w"]))


def test_parquet_that_is_not_whole_or_not_parquet(tmp_path):
    sink = io.BytesIO()
    pq.write_table(pa.table({"a": np.arange(9_999), "b": np.arange(9_999) + 1, "score": np.ones(9_999)}), sink)
    whole = sink.getvalue()
    for text in (whole[:-20], whole[: len(whole) // 2], b"PAR1", b'[{"a":1}]'):
        assert "not a whole Parquet file (" in refuse(tmp_path, text, name="pairs.parquet")
    damaged = bytearray(whole)
    damaged[100 : len(whole) // 2] = bytes(len(whole) // 2 - 100)
    assert "cannot be read to its end (" in refuse(tmp_path, bytes(damaged), name="pairs.parquet")
    assert "size is 0 bytes" in refuse(tmp_path, "", name="pairs.parquet")
    assert "unpack" in refuse(tmp_path, whole, name="pairs.parquet.gz")
    assert "say --format parquet" in refuse(tmp_path, whole, name="pairs.json")
    assert "json, ndjson or parquet" in refuse(tmp_path, "[[1,2,3]]", name="pairs.txt")


def test_parquet_that_is_not_there_or_lacks_a_column(tmp_path):
    message = refuse_parquet(tmp_path, columns(other=[1, 2, 3]), "--fields", "a,x,y")
    assert "no column 'x', 'y'; its columns: a, b, score, other" in message
    for path, reason in (
        (tmp_path / "none.parquet", "No such file"),
        (tmp_path, "Is a directory"),
        ("-", "from its end"),
    ):
        options = ("--store", str(tmp_path / "store"), "--format", "parquet")
        result = RUNNER.invoke(app, ["ingest", str(path), *options])
        assert result.exit_code == 1
        assert reason in result.stderr and len(result.stderr.splitlines()) == 1


def test_ids_of_several_files_and_of_the_items_are_alike(tmp_path):
    pq.write_table(columns(), tmp_path / "more.parquet")
    message = refuse_parquet(tmp_path, columns(a=["x"] * 3, b=["y"] * 3), str(tmp_path / "more.parquet"))
    assert "more.parquet: its ids are integers, but those of" in message
