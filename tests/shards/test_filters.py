"""Filters against plain Python, item by item."""

import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings

from simshard.serve.schema.filters import Filter
from simshard.serve.schema.validation import parse
from simshard.shards.errors import InvalidFilter, InvalidQuery
from simshard.shards.filters import compile_filter, group_rows, order_rows
from simshard.shards.items import Items, write_items
from tests.support import oracle
from tests.support.catalogue import FILTERS, columns_of, items_of

ITEMS = items_of(80, seed=4)


@pytest.fixture(scope="module")
def items(tmp_path_factory):
    folder = tmp_path_factory.mktemp("items")
    write_items(folder, pa.array(range(len(ITEMS)), pa.int64()), columns_of(ITEMS))
    return Items(folder)


@settings(max_examples=250, deadline=None)
@given(given_filter=FILTERS)
def test_any_filter_leaves_what_plain_python_leaves(items, given_filter):
    expected = [oracle.passes(item, given_filter) for item in ITEMS]
    assert compile_filter(items, given_filter).tolist() == expected
    parsed = parse(Filter, given_filter).model_dump(by_alias=True, exclude_none=True)
    assert compile_filter(items, parsed).tolist() == expected


def test_a_filter_inside_another(items):
    inner = {"should": [{"key": "type", "match": {"value": "TV"}}, {"key": "year", "range": {"gt": 1993}}]}
    mask = compile_filter(
        items, {"must": [{"filter": inner}], "must_not": [{"key": "tags", "match": {"any": ["Space"]}}]}
    )
    assert mask.tolist() == [
        (item["type"] == "TV" or (item["year"] or 0) > 1993) and "Space" not in (item["tags"] or []) for item in ITEMS
    ]


@pytest.mark.parametrize(
    ("condition", "field", "words"),
    [
        ({"key": "typ", "match": {"value": "TV"}}, "must[0].key", "no attribute 'typ'; there are title, type, year"),
        ({"key": "id", "match": {"value": 1}}, "must[0].key", "no attribute 'id'"),
        ({"key": "type", "match": {"value": 3}}, "must[0].match.value", "3 is not text"),
        ({"key": "year", "match": {"any": [1, "1995"]}}, "must[0].match.any[1]", "'1995' is not a number"),
        ({"key": "tags", "match": {"except": [1]}}, "must[0].match.except[0]", "of type list<string>"),
        ({"key": "type", "range": {"gte": 3}}, "must[0].range", "a range needs numbers"),
        ({"key": "tags", "range": {"gte": 3}}, "must[0].range", "a range needs numbers"),
    ],
)
def test_what_does_not_fit_an_attribute_is_named_with_those_that_there_are(items, condition, field, words):
    with pytest.raises(InvalidFilter, match=re.escape(words)) as caught:
        compile_filter(items, {"must": [condition]})
    assert caught.value.field == f"filter.{field}"
    assert caught.value.attributes == {
        "title": "string",
        "type": "string",
        "year": "int64",
        "rating": "float64",
        "tags": "list<string>",
    }


@pytest.mark.parametrize(
    ("given_filter", "field", "words"),
    [
        ({"might": []}, "might", "no such field"),
        ({"must": {}}, "must", "list"),
        ({"must": [{"key": "year"}]}, "must[0]", "exactly one of match, range, is_null, filter"),
        ({"must": [{"match": {"value": 1}}]}, "must[0]", "need a key"),
        ({"must": [{"key": "year", "filter": "x"}]}, "must[0]", "a filter has no key"),
        ({"must": [{"key": "year", "match": {}}]}, "must[0].match", "exactly one of value, any, except"),
        ({"must": [{"key": "year", "match": {"value": 1, "any": [2]}}]}, "must[0].match", "not 2"),
        ({"must": [{"key": "year", "match": {"fuzzy": 1}}]}, "must[0].match.fuzzy", "no such field"),
        ({"must": [{"key": "year", "match": {"value": True}}]}, "must[0].match.value", "a number or text"),
        ({"must": [{"key": "year", "match": {"value": None}}]}, "must[0].match", "exactly one"),
        ({"must": [{"key": "year", "range": {}}]}, "must[0].range", "at least one of gt"),
        ({"must": [{"key": "year", "range": {"gte": "1995"}}]}, "must[0].range.gte", "a number is needed"),
        ({"must": [{"key": "year", "range": {"gte": float("nan")}}]}, "must[0].range.gte", "finite"),
        ({"must": [{"key": "year", "is_null": 1}]}, "must[0].is_null", "boolean"),
        ({"must": [{"key": "year", "is_null": True}] * 65}, "must", "64"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_place(given_filter, field, words):
    with pytest.raises(InvalidQuery, match=words) as caught:
        parse(Filter, given_filter)
    assert caught.value.field == field


@pytest.mark.parametrize("key", ["year", "rating"])
@pytest.mark.parametrize("descending", [True, False])
def test_rows_in_the_order_of_a_number(items, key, descending):
    rows = [row for row, item in enumerate(ITEMS) if item[key] is not None]
    expected = sorted(rows, key=lambda row: ((-1 if descending else 1) * ITEMS[row][key], row))
    assert order_rows(items, key, descending, "x").tolist() == expected


def test_rows_are_ordered_by_numbers_only(items):
    with pytest.raises(InvalidFilter, match="ordered by numbers"):
        order_rows(items, "type", True, "fallback.order_by")


def test_integers_at_the_ends_of_their_range(tmp_path):
    values = [-(2**63), 2**63 - 1, 0, None]
    write_items(tmp_path, pa.array(range(4), pa.int64()), {"n": pa.array(values, pa.int64())})
    items = Items(tmp_path)
    for how, bound in [
        ("gt", 2**63),
        ("lt", 2**63),
        ("gte", -(2**63)),
        ("lte", -1e30),
        ("gt", 2**63 - 1.5),
        ("lt", 0.5),
    ]:
        expected = [oracle.passes({"n": value}, {"must": [{"key": "n", "range": {how: bound}}]}) for value in values]
        assert compile_filter(items, {"must": [{"key": "n", "range": {how: bound}}]}).tolist() == expected
    assert order_rows(items, "n", True, "x").tolist() == [1, 2, 0]


def test_zeros_are_one_value_and_integers_that_no_float_is_lie_beside_the_nearest(tmp_path):
    values = [-0.0, 0.0, float(2**53), float(2**53 + 2), 1.5, None]
    attributes = {"x": pa.array(values), "tags": pa.array([[None], ["a"], [], None, ["a", None], ["b"]])}
    write_items(tmp_path, pa.array(range(6), pa.int64()), attributes)
    items = Items(tmp_path)
    beside = 2**53 + 1
    conditions = [{"match": {"value": 0}}, {"match": {"any": [-0.0]}}, {"match": {"value": beside}}]
    conditions += [
        {"range": {how: bound}} for how in ("gt", "gte", "lt", "lte") for bound in (beside, -beside, 0, 2**53)
    ]
    for condition in conditions:
        given_filter = {"must": [{"key": "x", **condition}]}
        expected = [oracle.passes({"x": value}, given_filter) for value in values]
        assert compile_filter(items, given_filter).tolist() == expected, condition
    assert group_rows(items, "x", "group_by").tolist() == [0, 0, 1, 2, 3, -1]
    nulls = compile_filter(items, {"must": [{"key": "tags", "is_null": True}]})
    assert nulls.tolist() == [True, False, True, True, False, False]


def test_find_equals_row_for_any_ids(tmp_path):
    for ids in (pa.array([5, -7, 2**60, 0]), pa.array(["a", "é", "5", "x" * 300])):
        folder = tmp_path / str(ids.type)
        folder.mkdir()
        write_items(folder, ids, {})
        items = Items(folder)
        for asked in (pa.array([5, 0, 1, -7, 5, 2**60]), pa.array(["5", "05", "é", "-7", "", "b"])):
            expected = [-1 if (row := items.row(id_)) is None else row for id_ in asked.to_pylist()]
            assert items.find(asked).tolist() == expected
            assert items.find_all(asked.to_pylist() * 20).tolist() == expected * 20
        odd = ["5", 5, "x", 2**70, "\ud800", "9" * 30, "-0", 0] * 20
        expected = [-1 if (row := items.row(id_)) is None else row for id_ in odd]
        assert items.find_all(odd).tolist() == expected
    assert np.array_equal(items.find(pa.array([], pa.string())), [])
