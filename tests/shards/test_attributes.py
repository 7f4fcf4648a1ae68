"""What values attributes have, against plain Python; where pictures are."""

import math

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from simshard.shards import attributes
from simshard.shards.attributes import describe_attributes, origins_of, shorten
from simshard.shards.items import Items, write_items
from tests.support.attribute_oracle import described
from tests.support.catalogue import columns_of, items_of

TEXT = st.text(st.characters(codec="utf-8"), max_size=3) | st.sampled_from(["é" * 200, "é" * 201, "x" * 201])
COLUMNS = {
    "title": (pa.string(), TEXT),
    "count": (pa.int64(), st.integers(-3, 3) | st.sampled_from([2**63 - 1, -(2**63), 2**53 + 1])),
    "rating": (pa.float64(), st.sampled_from([0.0, 0.5, -1.25, 1e300, math.nan, math.inf, -math.inf])),
    "tags": (pa.list_(pa.string()), st.lists(st.none() | TEXT, max_size=4)),
}


@settings(deadline=None)
@given(
    rows=st.lists(st.fixed_dictionaries({name: st.none() | values for name, (_, values) in COLUMNS.items()})),
    most=st.sampled_from([0, 1, 2, 3, 100]),
    piece=st.sampled_from([1, 3, 1 << 18]),
)
@example(rows=[], most=5, piece=1)
@example(rows=[{"title": "b", "count": 1, "rating": None, "tags": ["x", "x", "y"]}] * 3, most=1, piece=2)
def test_described_as_plain_python_does(tmp_path_factory, rows, most, piece):
    columns = {name: pa.array([row[name] for row in rows], kind) for name, (kind, _) in COLUMNS.items()}
    folder = tmp_path_factory.mktemp("items")
    write_items(folder, pa.array(range(len(rows)), pa.int64()), columns)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attributes, "_PIECE", piece)
        found = describe_attributes(Items(folder), most)
    assert found == [described(name, [row[name] for row in rows], most) for name in COLUMNS]
    for fewer in range(most + 1) if most < 100 else (0, 1, 50):
        expected = [described(name, [row[name] for row in rows], fewer) for name in COLUMNS]
        assert shorten(found, fewer) == expected


def test_values_of_many_items_are_the_same(tmp_path):
    items = items_of(20_000)
    write_items(tmp_path, pa.array(range(len(items)), pa.int64()), columns_of(items))
    found = {each["name"]: each for each in describe_attributes(Items(tmp_path), 100)}
    assert (found["title"]["distinct"], found["title"]["values"]) == (20_000, [])
    expected = described("tags", [item["tags"] for item in items], 100)
    assert found["tags"] == expected


def test_lists_are_cut_by_their_elements(tmp_path, monkeypatch):
    lists = [["x"] * 7, [], None, ["a", "b"], ["a"], *[None] * 20, ["c", "c", "c"], [], ["d"], *[["e", "f"]] * 5]
    write_items(tmp_path, pa.array(range(len(lists)), pa.int64()), {"tags": pa.array(lists, pa.list_(pa.string()))})
    pieces, count = [], attributes._counted_piece

    def watched(piece):
        pieces.append(piece.to_pylist())
        return count(piece)

    monkeypatch.setattr(attributes, "_PIECE", 4)
    monkeypatch.setattr(attributes, "_counted_piece", watched)
    assert describe_attributes(Items(tmp_path), 9) == [described("tags", lists, 9)]
    assert [each for piece in pieces for each in piece] == lists
    sizes = [sum(len(each or ()) for each in piece) for piece in pieces]
    assert sizes == [7, 3, 4, 4, 4, 2]


def test_what_is_listed_is_bounded_in_bytes(tmp_path):
    columns = {
        "one": pa.array(["same"] * 4),
        "each": pa.array(["a", "b", "c", "d"]),
        "alone": pa.array(["a", None, None, None]),
        "long": pa.array(["x" * 201, "x" * 201, "y" * 200, None]),
        "tags": pa.array([["a"], ["b"], ["z" * 201], []]),
    }
    write_items(tmp_path, pa.array(range(4), pa.int64()), columns)
    found = {each["name"]: each for each in describe_attributes(Items(tmp_path), 1000)}
    listed = {name: [each["value"] for each in about["values"]] for name, about in found.items()}
    assert listed == {"one": ["same"], "each": [], "alone": ["a"], "long": ["y" * 200], "tags": ["a", "b"]}
    assert {name: about["distinct"] for name, about in found.items()} == {
        "one": 1,
        "each": 4,
        "alone": 1,
        "long": 2,
        "tags": 3,
    }


def test_origins_are_the_most_frequent_and_nothing_that_could_be_more_than_one():
    addresses = [
        *["https://img.example.com/a.png"] * 3,
        *["http://10.0.0.1:8080/b", "HTTP://10.0.0.1:8080?x", "http://10.0.0.1:8080"],
        "https://img.example.com:443/a",
        "https://a_b.c__d.example/x",
        "https://_a.example/x",
        "https://a.example_/x",
        "https://cdn-1.example#x",
        None,
        "",
        "/relative.png",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        "ftp://example.com/x",
        "https://user@example.com/x",
        "https://user:secret@example.com/x",
        "https://*.example.com/x",
        "https://example.com;script-src *",
        "https://example.com 'unsafe-inline'/x",
        "https://example.com\n/x",
        "https://example.com\n",
        "https://example.com\\evil/x",
        "https://example.com:/x",
        "https://example.com:123456/x",
        "https://[::1]/x",
        "https://-x/y",
        "https://é.example/x",
        " https://example.com/x",
        "https:///x",
    ]
    assert origins_of(pa.array(addresses)) == (
        "http://10.0.0.1:8080",
        "https://img.example.com",
        "https://a_b.c__d.example",
        "https://cdn-1.example",
        "https://img.example.com:443",
    )
    assert origins_of(pa.array([], pa.string())) == ()
    assert origins_of(pa.array([None], pa.string())) == ()
    many = [f"https://host{i}.example/{j}" for i in range(20) for j in range(20 - i)]
    assert origins_of(pa.array(many)) == tuple(f"https://host{i}.example" for i in range(8))
