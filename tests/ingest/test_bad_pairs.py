"""Every fault of JSON pairs: one sentence with file and place, exit code 1, nothing published."""

import json

import pytest

from tests.support.refused_pairs import GOOD, refuse


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


@pytest.mark.slow
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


def test_fields_that_are_not_there_and_the_record_that_lacks_them(tmp_path):
    assert "no field 'x'" in refuse(tmp_path, json.dumps(GOOD), "--fields", "x,b,score")


def test_damaged_compressed_data(tmp_path):
    import gzip

    packed = gzip.compress(json.dumps(GOOD).encode())
    assert "cannot be read" in refuse(tmp_path, packed[: len(packed) // 2], name="pairs.json.gz")
    assert "cannot be read" in refuse(tmp_path, b"not gzip at all, but text", name="pairs.json.gz")
