"""Every fault of the input: one sentence with file and place, exit code 1, nothing published."""

import io
import json
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from simshard.cli.main import app

GOOD = [{"a": i, "b": i + 1, "score": 0.5} for i in range(40)]
RUNNER = CliRunner()


def broken(record, at=20):
    """An array in which record `at` (from 0) is another."""
    return json.dumps([*GOOD[:at], record, *GOOD[at:]])


def lines(record, at=20):
    return "\n".join(map(json.dumps, [*GOOD[:at], record, *GOOD[at:]]))


RECORDS = [
    ({"a": 1, "b": 2}, "'score' is missing"),
    ({"b": 2, "score": 1}, "'a' is missing"),
    ({"a": None, "b": 2, "score": 1}, "'a' is null"),
    ({"a": 1, "b": 2, "score": None}, "'score' is null, not a number"),
    ({"a": 1, "b": 2, "score": "0.5"}, "text ('0.5'), not a number"),
    ({"a": 1, "b": 2, "score": True}, "true, not a number"),
    ({"a": 1, "b": 2, "score": 1e39}, "not a finite float32"),
    ({"a": 1, "b": 2, "score": 10**400}, "not a finite float32"),
    ({"a": "1", "b": 2, "score": 1}, "'a' is text ('1'), but the ids of this build are integers"),
    ({"a": 1.5, "b": 2, "score": 1}, "'a' is 1.5; ids are integers or text"),
    ({"a": 1.0, "b": 2, "score": 1}, "'a' is 1.0; ids are integers or text"),
    ({"a": False, "b": 2, "score": 1}, "'a' is false"),
    ({"a": 1, "b": {"id": 2}, "score": 1}, "'b' is an object"),
    ({"a": 1, "b": 2**63, "score": 1}, "does not fit 64 bits"),
    ([1, 2, 0.5], "expected an object with a, b, score, found an array"),
    (7, "expected an object with a, b, score, found 7"),
]


def refuse(tmp_path, text, *options, name="pairs.json"):
    """Run ingest on a file with this content; the message, after checking that nothing was published."""
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    store = tmp_path / "store"
    result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(store), "--workers", "1", *options])
    assert result.exit_code == 1, result.output
    assert list((store / "snapshots").iterdir()) == [] if store.exists() else True
    assert list((store / "staging").iterdir()) == [] if store.exists() else True
    assert not (store / "current.json").exists()
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("simshard: ")
    assert str(path) in message
    assert "Traceback" not in result.stderr
    return message


@pytest.mark.parametrize(("record", "reason"), RECORDS)
def test_a_refused_record_is_named_by_its_number(tmp_path, record, reason):
    message = refuse(tmp_path, broken(record))
    assert "record 21: " in message
    assert reason in message
    message = refuse(tmp_path, lines(record), name="pairs.ndjson")
    assert "line 21: " in message
    assert reason in message


@pytest.mark.parametrize("extra", [{}, {"why": [{"x": [1]}, {"y": 2}]}])
@pytest.mark.parametrize("score", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_scores_that_are_no_finite_number(tmp_path, score, extra):
    text = json.dumps([*GOOD[:20], {**extra, "a": 1, "b": 2, "score": "@"}, *GOOD[20:]]).replace('"@"', score)
    message = refuse(tmp_path, text)
    assert "record 21" in message
    message = refuse(
        tmp_path, "\n".join(json.dumps(r) for r in GOOD[:3]) + f'\n{{"a":1,"b":2,"score":{score}}}', name="p.ndjson"
    )
    assert "line 4" in message


def test_the_place_is_right_in_later_pieces_and_after_the_streaming_has_begun(tmp_path):
    many = [{"a": i % 500, "b": i % 499 + 600, "score": 0.25} for i in range(120_000)]
    for nested in (False, True):
        if nested:
            many[50_000]["why"] = [{"x": 1}, {"x": 2}] * 40_000  # a cut falls into it
        text = json.dumps([*many[:100_000], {"a": 1, "b": 2}, *many[100_000:]])
        assert "record 100001: field 'score' is missing" in refuse(tmp_path, text, "--memory", "16MB")
        text = json.dumps(many[:90_000])[:-1] + ', {"a": 1 "b"' + json.dumps(many[90_000:])[1:]
        message = refuse(tmp_path, text, "--memory", "16MB")
        assert "record 90001: not valid JSON" in message
        place = int(message.partition("byte ")[2].partition(",")[0])
        assert place - text.index('1 "b"') in ([2] if not nested else [2, 3, 4])


@pytest.mark.parametrize("keep", [5, 30, 200, 1000])
def test_truncated_json(tmp_path, keep):
    message = refuse(tmp_path, json.dumps(GOOD)[:keep])
    assert "not valid JSON" in message
    assert "record" in message


def test_truncated_ndjson_names_the_line(tmp_path):
    assert "line 40: not valid JSON" in refuse(tmp_path, "\n".join(map(json.dumps, GOOD))[:-5], name="pairs.ndjson")


@pytest.mark.parametrize(
    "text",
    [
        '[{"a":1,"b":2,"score":1}] x',
        '[{"a":1,"b":2,"score":1},]',
        "[[1,2,1]",
        "[[1,2,1]]]",
        '[{"a":1,"b":2,"score":1}}]',
    ],
)
def test_malformed_json(tmp_path, text):
    message = refuse(tmp_path, text)
    assert "not valid JSON" in message
    assert "byte " in message


def test_invalid_utf8(tmp_path):
    good = b'[{"a":"x","b":"y","score":1},'
    assert "not valid JSON" in refuse(tmp_path, good + b'{"a":"\xff","b":"y","score":1}]')
    assert "byte 35: half of a surrogate pair" in refuse(tmp_path, good + rb'{"a":"\ud800","b":"y","score":1}]')


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"1": {"2": 0.5}}', '{"1": {"2": 0.5}}'),
        ("a,b,score\n1,2,0.5\n", "a,b,score"),
        ("[1, 2, 3]", "[1, 2, 3]"),
        ('"text"', "text"),
        ("\x89PNG\r\n", "PNG"),
    ],
)
def test_an_unknown_shape_shows_what_was_seen_and_what_is_known(tmp_path, text, seen):
    message = refuse(tmp_path, text)
    assert "unknown shape" in message
    assert seen in message
    assert "[[1,2,0.5],...]" in message


@pytest.mark.parametrize(
    ("text", "name", "reason"),
    [
        ("", "pairs.json", "empty"),
        (" \n ", "pairs.ndjson", "empty"),
        ("[]", "pairs.json", "empty array"),
        ("[ \n ]", "pairs.json", "empty array"),
        ('[{"a":1,"b":1,"score":1}]', "pairs.json", "no pairs of two different items"),
        ("[[1,2]]", "pairs.json", "expected a triple"),
        ("[[]]", "pairs.json", "record 1: expected a triple [a, b, score], found 0 values"),
        ("[]", "pairs.ndjson", "record 1: expected a triple [a, b, score], found 0 values"),
        ('[{"x":1,"y":2}]', "pairs.json", "the fields of record 1 are x, y"),
        ('[{"a":1,"b":2,"score":1}]', "pairs.txt", "--format"),
        ('[{"a":"","b":"x","score":1}]', "pairs.json", "empty text"),
    ],
)
def test_other_faults_of_the_start(tmp_path, text, name, reason):
    assert reason in refuse(tmp_path, text, name=name)


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


def test_fields_that_are_not_there_and_the_record_that_lacks_them(tmp_path):
    assert "no field 'x'" in refuse(tmp_path, json.dumps(GOOD), "--fields", "x,b,score")


def test_damaged_compressed_data(tmp_path):
    import gzip

    packed = gzip.compress(json.dumps(GOOD).encode())
    assert "cannot be read" in refuse(tmp_path, packed[: len(packed) // 2], name="pairs.json.gz")
    assert "cannot be read" in refuse(tmp_path, b"not gzip at all, but text", name="pairs.json.gz")


@pytest.mark.parametrize(
    ("items", "name", "reason"),
    [
        ('[{"id":1},{"id":2},{"id":1}]', "items.json", "items 1 and 3 have the same id 1"),
        ('[{"id":1},{"id":null}]', "items.json", "item 2 has no id"),
        ('[{"id":1},{"title":"x"}]', "items.json", "item 2 has no id"),
        ('[{"key":1}]', "items.json", "no column 'id'"),
        ('[{"id":1.5}]', "items.json", "ids are integers or text"),
        ('[{"id":"1"}]', "items.json", "its ids are integers, but those of"),
        ('[{"id":1,"x":[1]},{"id":2,"x":"y"}]', "items.json", "'x'"),
        ('[{"id":1,"_index_row":5}]', "items.json", "reserved"),
        ('{"id":1}\n{"id":', "items.ndjson", "line 2"),
        ("[1]", "items.json", "item 1 is not an object"),
        ("[]", "items.json", "no items"),
        ('[{"id":1', "items.json", "not valid JSON after item 0"),
        ("id\n1\n1\n", "items.csv", "items 1 and 2 have the same id 1"),
        ("id,x\n1\n", "items.csv", "cannot be read as a catalogue"),
        ("x", "items.xlsx", "not a catalogue by its name"),
    ],
)
def test_faults_of_the_catalogue(tmp_path, items, name, reason):
    pairs, path, store = tmp_path / "pairs.json", tmp_path / name, tmp_path / "store"
    pairs.write_text(json.dumps(GOOD))
    path.write_text(items)
    result = RUNNER.invoke(app, ["ingest", str(pairs), "--store", str(store), "--items", str(path)])
    assert result.exit_code == 1
    assert reason in result.stderr
    assert name in result.stderr or "reserved" in reason
    assert not (store / "current.json").exists()


def test_files_that_are_not_there(tmp_path):
    for arguments in (["nothing.json"], ["nothing.json.gz"], [str(tmp_path)], ["-", "-"]):
        result = RUNNER.invoke(app, ["ingest", *arguments, "--store", str(tmp_path / "store"), "--format", "json"])
        assert result.exit_code == 1
        assert arguments[0] in result.stderr


def test_usage_errors_are_exit_code_2(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD))
    for options in (
        ["--fields", "a,b"],
        ["--memory", "much"],
        ["--encoding", "zip"],
        ["--shards", "0"],
        ["--top", "0"],
        ["--starts", "1,2"],
        ["--starts", "0,x"],
        ["--format", "csv"],
        ["--no-such"],
    ):
        result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(tmp_path / "store"), *options])
        assert result.exit_code == 2, options


def test_a_store_that_cannot_be_written(tmp_path):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(GOOD))
    (tmp_path / "file").touch()
    result = RUNNER.invoke(app, ["ingest", str(path), "--store", str(tmp_path / "file")])
    assert result.exit_code == 1
    assert "cannot make the store's folder" in result.stderr
