"""What values the attributes of a snapshot's items have, and which attribute holds pictures: Arrow, by column."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simshard.shards.errors import StoreError
from simshard.shards.items import Items, type_name

_ORIGINS = 8
_PIECE = 1 << 18  # lists that are looked at together
_ORIGIN = r"(?i)^(?P<origin>https?://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[0-9]{1,5})?)(?:[/?#]|$)"


def describe_attributes(items: Items, most: int) -> list[dict[str, Any]]:
    """What values each attribute has, in the order of the columns: a body of GET /v1/attributes, without its head.

    name, type, present (items that have a value: null and an empty list are none), distinct, min and max of numbers,
    and `values`: up to `most` of {value, count}, most frequent first, ties by value ascending; numbers only where there
    are no more than that. An item whose list names a value twice counts once for it. No Python object is made for an
    item.
    """
    return [{"name": name, **_describe(column, most)} for name, column in items.columns.items()]


def image_column(items: Items, name: str | None) -> pa.Array | None:
    """The column of pictures' addresses; None where there is no text attribute of that name."""
    column = None if name is None else items.columns.get(name)
    return column if column is not None and pa.types.is_string(column.type) else None


def check_image(items: Items, name: str) -> None:
    """Return if the items have a text attribute of that name. Raises StoreError, naming those that there are."""
    if image_column(items, name) is None:
        there = ", ".join(f"{known} ({kind})" for known, kind in items.types.items()) or "none"
        raise StoreError(f"image {name!r}: the items have no text attribute of that name; there are {there}")


def origins_of(column: pa.Array) -> tuple[str, ...]:
    """The http and https origins, `scheme://host[:port]`, of addresses (N, string): up to 8, most frequent first.

    What is not letters, digits, dots and hyphens between `//` and the path is no origin: these go into a header.
    """
    found = pc.struct_field(pc.extract_regex(column, _ORIGIN), "origin").drop_null()
    values, counts = _counted(pc.ascii_lower(found))
    return tuple(each["value"] for each in _most_frequent(values, counts, _ORIGINS))


def _describe(column: pa.Array, most: int) -> dict[str, Any]:
    if pa.types.is_list(column.type):
        present, values, counts = _counted_lists(column)
    else:
        there = column.drop_null()
        if pa.types.is_float64(there.type):
            there = there.filter(pc.is_finite(there))  # JSON has no others
        present = len(there)
        values, counts = _counted(there)
    number = not (pa.types.is_list(column.type) or pa.types.is_string(column.type))
    return {
        "type": type_name(column.type),
        "present": present,
        "distinct": len(values),
        **(pc.min_max(values).as_py() if number else {"min": None, "max": None}),
        "values": [] if number and len(values) > most else _most_frequent(values, counts, most),
    }


def _counted(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The distinct values of an array without nulls, and how often each is there."""
    counted = pc.value_counts(values)
    return counted.field(0), counted.field(1)


def _counted_lists(lists: pa.Array) -> tuple[int, pa.Array, pa.Array]:
    """How many lists have values, the distinct values, and how many lists name each."""
    pieces = [_counted_piece(lists.slice(start, _PIECE)) for start in range(0, max(len(lists), 1), _PIECE)]
    both = pa.concat_tables(table for _, table in pieces)
    both = both.group_by("value").aggregate([("count", "sum")]).combine_chunks().to_batches()
    values, counts = both[0].columns if both else (pa.array([], pa.string()), pa.array([], pa.int64()))
    return sum(present for present, _ in pieces), values, counts


def _counted_piece(lists: pa.Array) -> tuple[int, pa.Table]:
    elements = lists.flatten()
    there = elements.is_valid()
    encoded = elements.filter(there).dictionary_encode()
    parents = pc.list_parent_indices(lists).filter(there).to_numpy().astype(np.int64)
    distinct = len(encoded.dictionary)
    named = np.sort(parents * distinct + encoded.indices.to_numpy())  # a number for each list and value
    named = named[np.diff(named, prepend=-1) != 0]
    counts = np.bincount(named % max(distinct, 1), minlength=distinct)
    present = int(np.count_nonzero(np.diff(parents, prepend=-1)))
    return present, pa.table({"value": encoded.dictionary, "count": pa.array(counts, pa.int64())})


def _most_frequent(values: pa.Array, counts: pa.Array, most: int) -> list[dict[str, Any]]:
    both = pa.record_batch({"value": values, "count": counts})
    order = [("count", "descending"), ("value", "ascending")]
    return both.take(pc.select_k_unstable(both, most, sort_keys=order)).to_pylist() if most else []
