"""A filter -> which rows it leaves, by pyarrow.compute over the item table's columns.

A filter is plain JSON: `{"must": [...], "should": [...], "must_not": [...]}`. An item passes if it meets every
condition of `must`, at least one of `should` (where there are any) and none of `must_not`. A condition is one of

  {"key": K, "match": {"value": V} | {"any": [V, ...]} | {"except": [V, ...]}}
  {"key": K, "range": {"gt" | "gte" | "lt" | "lte": number, ...}}
  {"key": K, "is_null": true | false}
  {"filter": {...}}   another filter

An item without a value (null, or an empty list) meets `is_null: true` and nothing else. Of a list, one value that
matches is enough for `value` and `any`; `except` wants values, none of which is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.shards.errors import InvalidFilter
from simshard.shards.items import Items, type_name
from simshard.shards.query import Rows

Filter = Mapping[str, Any]
Mask = NDArray[np.bool_]
Groups = NDArray[np.int32]

_INT64 = range(-(2**63), 2**63)
_WORDS = {"string": "text", "int64": "a number", "float64": "a number", "list<string>": "text"}
_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "gt": pc.greater,
    "gte": pc.greater_equal,
    "lt": pc.less,
    "lte": pc.less_equal,
}


def compile_filter(items: Items, given: Filter, place: str = "filter") -> Mask:
    """The rows that pass: bool (N,). `place` is how messages name the filter.

    Raises InvalidFilter, naming the place and the attributes, for an attribute that is not there, and for a value that
    its type cannot be compared with.
    """

    def masks(part: str) -> list[Mask]:
        return [_condition(items, each, f"{place}.{part}[{i}]") for i, each in enumerate(given.get(part) or ())]

    passed = np.ones(len(items), dtype=np.bool_)
    for mask in masks("must"):
        passed &= mask
    should = masks("should")
    if should:
        passed &= np.logical_or.reduce(should)
    for mask in masks("must_not"):
        passed &= ~mask
    return passed


def check_filters(items: Items, named: Mapping[str, Filter]) -> None:
    """Return if every named filter fits the items. Raises InvalidFilter, naming the filter."""
    for name, given in named.items():
        compile_filter(items, given, f"filter {name}")


def attribute(items: Items, key: str, place: str) -> pa.Array:
    """A column of the item table. Raises InvalidFilter where there is none of that name."""
    if key not in items.columns:
        there = ", ".join(items.columns) or "none"
        raise InvalidFilter(place, f"no attribute {key!r}; there are {there}", items.types)
    return items.columns[key]


def order_rows(items: Items, key: str, descending: bool, place: str) -> Rows:
    """Rows that have a value, by it, ties by ascending row; uint32. Raises InvalidFilter unless it is a number's."""
    column = attribute(items, key, place)
    if not _is_number(column.type):
        kind = type_name(column.type)
        raise InvalidFilter(place, f"{key!r} is of type {kind}; items are ordered by numbers", items.types)
    rows = np.flatnonzero(column.is_valid().to_numpy(zero_copy_only=False)).astype(np.uint32)
    values = column.drop_null().to_numpy()
    if descending:
        values = ~values if pa.types.is_int64(column.type) else -values
    return rows[np.argsort(values, kind="stable")]


def group_rows(items: Items, key: str, place: str) -> Groups:
    """The group of each row by an attribute of one value, int32 (N,), -1 where there is none. Raises InvalidFilter."""
    column = attribute(items, key, place)
    if _lists(column):
        raise InvalidFilter(place, f"{key!r} holds lists; hits are grouped by one value each", items.types)
    codes: Groups = pc.fill_null(column.dictionary_encode().indices, -1).to_numpy()
    return codes


def _condition(items: Items, given: Filter, place: str) -> Mask:
    if "filter" in given:
        return compile_filter(items, given["filter"], f"{place}.filter")
    key = given["key"]
    column = attribute(items, key, f"{place}.key")

    def refuse(part: str, reason: str) -> NoReturn:
        raise InvalidFilter(f"{place}.{part}", f"{key!r} is of type {type_name(column.type)}; {reason}", items.types)

    if "is_null" in given:
        there = _has_value(column)
        return ~there if given["is_null"] else there
    if "range" in given:
        if not _is_number(column.type):
            refuse("range", "a range needs numbers")
        return _in_range(column, given["range"])
    ((how, values),) = given["match"].items()
    values = [values] if how == "value" else values
    wanted = str if _WORDS[type_name(column.type)] == "text" else int | float
    for i, value in enumerate(values):
        if not isinstance(value, wanted):
            part = "match.value" if how == "value" else f"match.{how}[{i}]"
            refuse(part, f"{value!r} is not {_WORDS[type_name(column.type)]}")
    matched = _is_any(column, values)
    return _has_value(column) & ~matched if how == "except" else matched


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_int64(kind) or pa.types.is_float64(kind))


def _has_value(column: pa.Array) -> Mask:
    return _any_element(column, column.flatten().is_valid()) if _lists(column) else _as_mask(column.is_valid())


def _lists(column: pa.Array) -> bool:
    return bool(pa.types.is_list(column.type))


def _as_mask(column: pa.Array) -> Mask:
    mask: Mask = column.to_numpy(zero_copy_only=False)
    return mask


def _is_any(column: pa.Array, values: Sequence[Any]) -> Mask:
    if pa.types.is_int64(column.type):
        values = [int(value) for value in values if value == math.floor(value) and int(value) in _INT64]
    elif pa.types.is_float64(column.type):
        values = [float(value) + 0.0 for value in values if float(value) == value]
    if not _lists(column):
        return _as_mask(pc.is_in(column, value_set=pa.array(values, column.type)))
    return _any_element(column, pc.is_in(column.flatten(), value_set=pa.array(values, pa.string())))


def _any_element(lists: pa.Array, of_elements: pa.Array) -> Mask:
    """The rows, bool (N,), of lists with an element that is true."""
    mask = np.zeros(len(lists), dtype=np.bool_)
    mask[pc.list_parent_indices(lists).filter(of_elements).to_numpy()] = True
    return mask


def _in_range(column: pa.Array, bounds: Mapping[str, float]) -> Mask:
    passed = column.is_valid()
    nearest = _integer_bound if pa.types.is_int64(column.type) else _float_bound
    for how, given in bounds.items():
        exact, bound = nearest(how, given)
        if bound is None:
            if (given > 0) == (how in ("gt", "gte")):
                return np.zeros(len(column), dtype=np.bool_)
            continue
        passed = pc.and_(passed, _COMPARE[exact](column, pa.scalar(bound, column.type)))
    return _as_mask(pc.fill_null(passed, False))


def _integer_bound(how: str, given: float) -> tuple[str, int | None]:
    """The same bound for integers, exactly: x > 2.5 is x > 2, x >= 2.5 is x >= 3; None beyond all of 64 bits."""
    whole = math.floor(given) if how in ("gt", "lte") else math.ceil(given)
    return how, whole if whole in _INT64 else None


def _float_bound(how: str, given: float) -> tuple[str, float]:
    """The same bound for floats, exactly: an integer that no float is lies on one side of the nearest one."""
    bound = float(given)
    if bound == given:
        return how, bound
    beyond = (bound < given) == (how in ("gt", "gte"))
    return how[:2] if beyond else f"{how[:2]}e", bound
