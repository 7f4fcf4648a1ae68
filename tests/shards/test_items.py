import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simshard.shards.errors import InputError
from simshard.shards.items import Items, write_items


def written(folder, ids, **attributes):
    write_items(folder, ids, attributes)
    return Items(folder)


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, unique=True), st.integers(-(2**70), 2**70))
def test_every_integer_id_is_found_and_no_other(tmp_path_factory, ids, other):
    items = written(tmp_path_factory.mktemp("items"), pa.array(ids, pa.int64()))
    for row, id_ in enumerate(ids):
        assert items.row(id_) == items.row(str(id_)) == row
    if other not in ids:
        assert items.row(other) is None
        assert items.row(str(other)) is None


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True), st.text())
def test_every_text_id_is_found_and_no_other(tmp_path_factory, ids, other):
    items = written(tmp_path_factory.mktemp("items"), pa.array(ids, pa.string()))
    for row, id_ in enumerate(ids):
        assert items.row(id_) == row
        assert items.id(row) == id_
    if other not in ids:
        assert items.row(other) is None


@pytest.mark.parametrize("text", ["07", "+7", " 7", "7 ", "7.0", "-0", "", "seven", "7_0", "٧", "1" * 30])
def test_text_that_is_not_how_an_integer_is_written_is_no_integer_id(tmp_path, text):
    assert written(tmp_path, pa.array([7, 0, 70])).row(text) is None


def test_an_integer_names_a_text_id(tmp_path):
    assert written(tmp_path, pa.array(["7", "a"])).row(7) == 0


def test_integers_beyond_what_json_readers_hold_come_back_as_text(tmp_path):
    items = written(tmp_path, pa.array([2**53, 2**53 + 1, -(2**60)]))
    assert [items.id(row) for row in range(3)] == [2**53, str(2**53 + 1), str(-(2**60))]


def test_payload_has_every_type_and_leaves_absent_values_out(tmp_path):
    items = written(
        tmp_path,
        pa.array([1, 2]),
        title=pa.array(["Naïve", None]),
        year=pa.array([1999, None], pa.int64()),
        rating=pa.array([None, 8.5]),
        tags=pa.array([["a", "b"], []], pa.list_(pa.string())),
    )
    assert items.payload(0) == {"title": "Naïve", "year": 1999, "tags": ["a", "b"]}
    assert items.payload(1) == {"rating": 8.5, "tags": []}


@pytest.mark.parametrize("name", ["id", "_index_row"])
def test_reserved_attribute_names_are_refused(tmp_path, name):
    with pytest.raises(InputError, match="reserved"):
        write_items(tmp_path, pa.array([1]), {name: pa.array(["x"])})


def test_rows_of_many_ids(tmp_path):
    items = written(tmp_path, pa.array(["b", "a", "c"]))
    assert items.rows(pa.array(["c", "b", "c"])).tolist() == [2, 0, 2]
    with pytest.raises(KeyError, match="z"):
        items.rows(pa.array(["a", "z"]))
