"""Item files (JSON array, NDJSON, CSV, TSV, Parquet) -> ids, titles and typed attribute columns in row order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import ijson
import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from simshard.ingest.records import describe
from simshard.ingest.streams import COMPRESSED
from simshard.shards.errors import InputError

_BATCH = 20_000
_BLOCK = 1 << 20
TITLES = ("title", "name")
UNKNOWN = ("", "UNKNOWN")  # cells that say that nothing is known


@dataclass(frozen=True)
class Catalogue:
    """ids (N,), int64 or string, unique; attributes: string, int64, float64 or list<string> columns (N,) by name.

    vectors: lists of numbers (N,) by name, as they were read; those of decimal numbers are no attributes.
    """

    ids: pa.Array
    attributes: dict[str, pa.Array]
    vectors: dict[str, pa.ChunkedArray] = field(default_factory=dict)


def read_catalogue(
    path: str,
    id_column: str | None = None,
    title_column: str | None = None,
    inside: str | None = None,
    separators: Mapping[str, str] | None = None,
) -> Catalogue:
    """The items of a file, nested JSON objects as dotted names. Raises InputError with the file and the place.

    inside: dotted place of the array in a JSON document; separators: text columns that hold lists, and what parts them.
    """
    try:
        table = _read(path, inside)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException, msgspec.DecodeError, ijson.JSONError) as error:
        raise InputError(f"{path}: cannot be read as a catalogue: {describe(error)}") from error
    if not len(table):
        raise InputError(f"{path}: no items")
    separators = separators or {}
    id_name = id_column or "id"
    titles = [name for name in table.column_names if name.lower() in TITLES]
    title_name = title_column or (titles[0] if titles else None)
    wanted = [(id_name, "for the ids"), *((name, "to split") for name in separators)]
    for name, purpose in [*wanted, (title_name, "for the titles")]:
        if name is not None and name not in table.column_names:
            hint = "; name one with --id" if name == "id" else ""
            there = ", ".join(table.column_names)
            raise InputError(f"{path}: no column {name!r} {purpose}; there are {there}{hint}")
    attributes = {}
    vectors = {}
    for name in sorted(table.column_names, key=lambda name: name != title_name):
        if name == id_name:
            continue
        attribute = "title" if name == title_name else "other_title" if name == "title" else name
        if _numbers(table[name].type):
            vectors[attribute] = table[name]
        column = _attribute(path, name, table[name], separators.get(name), attribute == "title")
        if column is not None:
            attributes[attribute] = column
    return Catalogue(_ids(path, id_name, table[id_name]), attributes, vectors)


def _numbers(kind: pa.DataType) -> pa.DataType | None:
    """The type of the numbers that a column of this type has lists of; None for other columns."""
    elements = getattr(kind, "value_type", pa.null())
    return elements if pa.types.is_floating(elements) or pa.types.is_integer(elements) else None


def _attribute(path: str, name: str, column: pa.ChunkedArray, separator: str | None, is_title: bool) -> pa.Array | None:
    """The column as an attribute; None where it is none: empty, or lists of decimal numbers."""
    if (numbers := _numbers(column.type)) and pa.types.is_floating(numbers):
        return None
    typed = _typed(path, name, column)
    if typed is None:
        return None
    if separator is not None:
        if not pa.types.is_string(typed.type):
            raise InputError(f"{path}: column {name!r} has type {column.type}; only text can be split")
        typed = split_texts(typed, separator)
    if is_title:
        if pa.types.is_list(typed.type):
            raise InputError(f"{path}: column {name!r} holds lists; a title is a text: name another with --title")
        typed = typed.cast(pa.string())
    return typed


def split_texts(texts: pa.Array, separator: str) -> pa.Array:
    """Lists of the parts of texts (N,), trimmed, without those that say nothing: list<string> (N,)."""
    lists = pc.split_pattern(texts, separator)
    parts = pc.utf8_trim_whitespace(lists.flatten())
    known = pc.invert(pc.is_in(parts, value_set=pa.array(UNKNOWN)))
    parents = pc.list_parent_indices(lists).filter(known).to_numpy()
    offsets = np.searchsorted(parents, np.arange(len(texts) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(offsets, parts.filter(known), mask=texts.is_null())


def _read(path: str, inside: str | None) -> pa.Table:
    plain = path
    for suffix in COMPRESSED:
        plain = plain.removesuffix(suffix)
    kind = os.path.splitext(plain)[1].lower()
    if inside is not None and kind != ".json":
        raise InputError(f"{path}: --path names a place in a JSON document, which this is not by its name")
    if kind == ".parquet":
        return pa.parquet.read_table(path)
    if kind not in (".csv", ".tsv", ".json", ".ndjson", ".jsonl"):
        raise InputError(f"{path}: not a catalogue by its name; known are .json, .ndjson, .csv, .tsv and .parquet")
    with pa.input_stream(path, compression="detect") as stream:
        if kind in (".csv", ".tsv"):
            options = pa.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True)
            missing = [*pa.csv.ConvertOptions().null_values, *UNKNOWN]
            cells = pa.csv.ConvertOptions(null_values=missing, strings_can_be_null=False)
            return pa.csv.read_csv(stream, parse_options=options, convert_options=cells)
        if kind == ".json":
            place = f"{inside}.item" if inside else "item"
            table = _table(path, ijson.items(_blocks(stream), place, use_float=True))
        else:
            return _table(path, _lines(path, stream))
    if not len(table):
        with pa.input_stream(path, compression="detect") as stream:
            raise InputError(f"{path}: no items{_instead(stream, inside)}")
    return table


def _blocks(stream: pa.NativeFile) -> Any:
    return ijson.from_iter(iter(lambda: bytes(stream.read(_BLOCK)), b""))


def _instead(stream: pa.NativeFile, inside: str | None) -> str:
    """What a JSON document without items holds where they were looked for."""
    where = f" at --path {inside!r}" if inside else ""
    keys = [value for place, event, value in ijson.parse(_blocks(stream)) if event == "map_key" and place == ""]
    if not keys:
        return where
    return f"{where}: the document is an object with {', '.join(keys[:20])}; name the array in it with --path"


def _lines(path: str, stream: pa.NativeFile) -> Iterator[Any]:
    rest = b""
    number = 0
    while block := stream.read(_BLOCK):
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            number += 1
            if line.strip():
                yield _line(path, number, line)
    if rest.strip():
        yield _line(path, number + 1, rest)


def _line(path: str, number: int, line: bytes) -> Any:
    try:
        return msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: line {number} is not valid JSON ({error})") from error


def _table(path: str, records: Iterable[Any]) -> pa.Table:
    tables = []
    columns: dict[str, list[Any]] = {}
    count = first = 0

    def close() -> None:
        arrays = {}
        for name, values in columns.items():
            values.extend([None] * (count - len(values)))
            try:
                arrays[name] = pa.array(values)
            except (pa.ArrowException, OverflowError) as error:
                place = f"items {first + 1} to {first + count}"
                raise InputError(f"{path}: field {name!r} has values of several kinds in {place}: {error}") from error
        tables.append(pa.table(arrays))

    for record in records:
        if not isinstance(record, dict):
            raise InputError(f"{path}: item {first + count + 1} is not an object but {record!r:.60}")
        for name, value in _flat(record):
            values = columns.setdefault(name, [])
            values.extend([None] * (count - len(values)))
            values.append(value)
        count += 1
        if count == _BATCH:
            close()
            first, count, columns = first + count, 0, {}
    if columns:
        close()
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, None if isinstance(value, str) and value in UNKNOWN else value


def _typed(path: str, name: str, column: pa.ChunkedArray) -> pa.Array | None:
    """The column in one of the four attribute types; None if it is empty."""
    kind = column.type
    if column.null_count == len(column):
        return None
    if pa.types.is_integer(kind):
        wanted = pa.int64()
    elif pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        wanted = pa.float64()
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        wanted = pa.list_(pa.string())
    elif pa.types.is_nested(kind) or pa.types.is_binary(kind):
        raise InputError(f"{path}: column {name!r} has type {kind}; an attribute is text, a number or a list of texts")
    else:
        wanted = pa.string()
    array = _cast(path, name, column, wanted)
    if wanted == pa.float64():
        array = pc.if_else(pc.is_finite(array), array, None)
    elif wanted == pa.string():
        array = pc.if_else(pc.is_in(array, value_set=pa.array(UNKNOWN)), None, array)
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
