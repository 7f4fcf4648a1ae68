"""What values the attributes of a snapshot's items have, and which attribute holds pictures: Arrow, by column."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.shards.errors import StoreError
from simshard.shards.items import Items, type_name
from simshard.shards.plain_values import plain_id

_ORIGINS = 8
_LONGEST = 200  # characters of a value that is listed
_PIECE = 1 << 22  # elements of lists that are looked at together
_ORIGIN = r"(?i)^(?P<origin>https?://[a-z0-9](?:[a-z0-9._-]*[a-z0-9])?(?::[0-9]{1,5})?)(?:[/?#]|$)"


def describe_attributes(items: Items, most: int) -> list[dict[str, Any]]:
    """What values each attribute has, in the order of the columns: a body of GET /v1/attributes, without its head.

    name, type, present (items that have a value: null and an empty list are none), distinct, min and max of numbers,
    and `values`: up to `most` of {value, count}, most frequent first, ties by value ascending; numbers only where there
    are no more than that, text only of up to 200 characters, and none where every item has another. An item whose list
    names a value twice counts once for it. Integers beyond 2^53 are text. No Python object is made for an item.
    """
    return [{"name": name, **_describe(column, most)} for name, column in items.columns.items()]


def shorten(attributes: Sequence[Mapping[str, Any]], most: int) -> list[dict[str, Any]]:
    """What `describe_attributes` says for a smaller `most`."""
    return [{**each, "values": _first(each, most)} for each in attributes]


def _first(attribute: Mapping[str, Any], most: int) -> list[dict[str, Any]]:
    number = attribute["type"] in ("int64", "float64")
    return [] if number and attribute["distinct"] > most else attribute["values"][:most]


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

    A host is a name or an IPv4 address: what is not letters, digits, dots, hyphens and underscores between `//` and the
    port or path is no origin, as these go into a header.
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
    distinct = len(values)
    ends: dict[str, Any] = {"min": None, "max": None}
    if not (pa.types.is_list(column.type) or pa.types.is_string(column.type)):
        ends = {end: plain_id(value) for end, value in pc.min_max(values).as_py().items()}
        listed = distinct <= most
    else:
        short = pc.less_equal(pc.utf8_length(values), _LONGEST)
        values, counts = values.filter(short), counts.filter(short)
        listed = pa.types.is_list(column.type) or not 1 < present == distinct  # else titles, texts, addresses
    return {
        "type": type_name(column.type),
        "present": present,
        "distinct": distinct,
        **ends,
        "values": _most_frequent(values, counts, most) if listed else [],
    }


def _counted(values: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The distinct values of an array without nulls, and how often each is there."""
    counted = pc.value_counts(values)
    return counted.field(0), counted.field(1)


def _counted_lists(lists: pa.Array) -> tuple[int, pa.Array, pa.Array]:
    """How many lists have values, the distinct values, and how many lists name each."""
    pieces = [_counted_piece(lists.slice(start, stop - start)) for start, stop in _pieces(lists.offsets.to_numpy())]
    both = pa.concat_tables(table for _, table in pieces)
    both = both.group_by("value").aggregate([("count", "sum")]).combine_chunks().to_batches()
    values, counts = both[0].columns if both else (pa.array([], pa.string()), pa.array([], pa.int64()))
    return sum(present for present, _ in pieces), values, counts


def _pieces(offsets: NDArray[np.int32]) -> list[tuple[int, int]]:
    """Ranges of lists, at least one, that end where their elements would be more than _PIECE; a range has one list."""
    pieces: list[tuple[int, int]] = []
    start = 0
    while start < len(offsets) - 1 or not pieces:
        stop = int(np.searchsorted(offsets, int(offsets[start]) + _PIECE, side="right")) - 1
        pieces.append((start, max(stop, min(start + 1, len(offsets) - 1))))
        start = pieces[-1][1]
    return pieces


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
    found = both.take(pc.select_k_unstable(both, most, sort_keys=order)).to_pylist() if most else []
    return [{"value": plain_id(each["value"]), "count": each["count"]} for each in found]
