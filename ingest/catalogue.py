"""Catalogues: a table of items -> ids, titles and typed attribute columns in row order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from simshard.ingest.catalogue_files import UNKNOWN, read_table
from simshard.ingest.pair_records import describe
from simshard.shards.errors import InputError

TITLES = ("title", "name")


@dataclass(frozen=True)
class Catalogue:
    """ids (N,), int64 or string, unique; attributes: string, int64, float64 or list<string> columns (N,) by name.

    vectors: lists of numbers (N,) by name, as they were read; those of decimal numbers are no attributes.
    renamed: columns whose attribute has another name than in the file; left_out: what columns hold that are neither.
    """

    ids: pa.Array
    attributes: dict[str, pa.Array]
    vectors: dict[str, pa.ChunkedArray] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)


def read_catalogue(
    path: str,
    id_column: str | None = None,
    title_column: str | None = None,
    inside: str | None = None,
    separators: Mapping[str, str] | None = None,
) -> Catalogue:
    """The items of a file. Raises InputError with the file and the place.

    inside: dotted place of the array in a JSON document; separators: text columns that hold lists, and what parts them.
    """
    separators = separators or {}
    id_name = id_column or "id"
    texts = {*separators, *TITLES, *(name.capitalize() for name in TITLES), *([title_column] if title_column else [])}
    table = read_table(path, id_name, inside, texts)
    names = table.column_names
    titles = sorted((name for name in names if name.lower() in TITLES), key=lambda name: TITLES.index(name.lower()))
    title_name = title_column or (titles[0] if titles else None)
    wanted = [(id_name, "for the ids"), (title_name, "for the titles"), *((name, "to split") for name in separators)]
    for name, purpose in wanted:
        if name is not None and name not in names:
            hint = "; name one with --id" if name == "id" else ""
            raise InputError(f"{path}: no column {name!r} {purpose}; there are {', '.join(names)}{hint}")
    ids = _ids(path, id_name, table[id_name])
    catalogue = Catalogue(ids, {"title": ids.cast(pa.string())} if title_name == id_name else {})
    for name in sorted(names, key=lambda name: name != title_name):
        if name == id_name:
            continue
        attribute = "title" if name == title_name else f"other_{name}" if name in ("id", "title") else name
        if attribute != name:
            catalogue.renamed[name] = attribute
        column = table[name]
        if numbers := _numbers(column.type):
            catalogue.vectors[attribute] = column
            if pa.types.is_floating(numbers):
                continue
        if not _fits(column.type):
            catalogue.left_out[name] = str(column.type)
            continue
        typed = _typed(path, name, column)
        if typed is not None and name in separators:
            if not pa.types.is_string(typed.type):
                raise InputError(f"{path}: column {name!r} has type {column.type}; only text can be split")
            typed = split_texts(typed, separators[name])
        if typed is not None and attribute == "title":
            typed = _as_title(path, name, typed)
        if typed is not None:
            catalogue.attributes[attribute] = typed
    return catalogue


def _numbers(kind: pa.DataType) -> pa.DataType | None:
    """The type of the numbers that a column of this type has lists of; None for other columns."""
    elements = getattr(kind, "value_type", pa.null()) if pa.types.is_nested(kind) else pa.null()
    return elements if pa.types.is_floating(elements) or pa.types.is_integer(elements) else None


def _fits(kind: pa.DataType) -> bool:
    """Whether a column of this type can be an attribute."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return not (pa.types.is_nested(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _as_title(path: str, name: str, column: pa.Array) -> pa.Array:
    if pa.types.is_list(column.type):
        raise InputError(f"{path}: column {name!r} holds lists; a title is a text: name another with --title")
    return column.cast(pa.string())


def split_texts(texts: pa.Array, separator: str) -> pa.Array:
    """Lists of the parts of texts (N,), trimmed, without those that say nothing: list<string> (N,)."""
    lists = pc.split_pattern(texts, separator)
    parts = pc.utf8_trim_whitespace(lists.flatten())
    known = pc.invert(pc.is_in(parts, value_set=pa.array(UNKNOWN)))
    parents = pc.list_parent_indices(lists).filter(known).to_numpy()
    offsets = np.searchsorted(parents, np.arange(len(texts) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, parts.filter(known), mask=texts.is_null())


def _typed(path: str, name: str, column: pa.ChunkedArray) -> pa.Array | None:
    """The column in one of the four attribute types; None if it says nothing."""
    kind = column.type
    if pa.types.is_integer(kind):
        wanted = pa.int64()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        wanted = pa.float64()
    elif pa.types.is_nested(kind):
        wanted = pa.list_(pa.string())
    else:
        wanted = pa.string()
    array = _cast(path, name, column, wanted)
    if wanted == pa.float64():
        array = pc.if_else(pc.is_finite(array), array, None)
    elif wanted == pa.string():
        array = pc.if_else(pc.is_in(array, value_set=pa.array(UNKNOWN)), None, array)
    elif pa.types.is_list(wanted) and pc.all(pc.is_in(array.flatten(), value_set=pa.array([*UNKNOWN, None]))).as_py():
        return None  # or no element at all
    return None if array.null_count == len(array) else array


def _cast(path: str, name: str, column: pa.ChunkedArray, wanted: pa.DataType) -> pa.Array:
    try:
        array = column.cast(wanted).combine_chunks()
    except pa.ArrowException as error:
        place = f"{path}: column {name!r} of type {column.type}"
        raise InputError(f"{place} does not fit {wanted}: {describe(error)}") from error
    return array.chunk(0) if isinstance(array, pa.ChunkedArray) else array


def _ids(path: str, name: str, column: pa.ChunkedArray) -> pa.Array:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise InputError(f"{path}: item {row + 1} has no id in {name!r}")
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise InputError(f"{path}: ids in {name!r} are of type {column.type}; ids are integers or text")
    ids = _cast(path, name, column, pa.int64() if pa.types.is_integer(column.type) else pa.string())
    encoded = ids.dictionary_encode().indices.to_numpy()
    if len(ids) and int(encoded.max()) + 1 < len(ids):
        order = np.argsort(encoded, kind="stable")
        at = int(np.flatnonzero(encoded[order][1:] == encoded[order][:-1])[0])
        first, second = order[at] + 1, order[at + 1] + 1
        raise InputError(f"{path}: items {first} and {second} have the same id {ids[int(order[at])].as_py()!r}")
    if pa.types.is_string(ids.type) and pc.any(pc.equal(ids, "")).as_py():
        row = int(np.flatnonzero(pc.equal(ids, "").to_numpy(zero_copy_only=False))[0])
        raise InputError(f"{path}: item {row + 1} has an empty id")
    return ids
