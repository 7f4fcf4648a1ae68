"""Item files (JSON array, NDJSON, CSV, TSV, Parquet) -> ids, titles and typed attribute columns in row order."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Catalogue:
    """ids (N,), int64 or string, unique; attributes: string, int64, float64 or list<string> columns (N,) by name."""

    ids: pa.Array
    attributes: dict[str, pa.Array]


def read_catalogue(path: str, id_column: str | None = None, title_column: str | None = None) -> Catalogue:
    """The items of a file, nested JSON objects as dotted names. Raises InputError with the file and the place."""
    try:
        table = _read(path)
    except InputError:
        raise
    except (OSError, ValueError, pa.ArrowException, msgspec.DecodeError, ijson.JSONError) as error:
        raise InputError(f"{path}: cannot be read as a catalogue: {describe(error)}") from error
    if not len(table):
        raise InputError(f"{path}: no items")
    there = ", ".join(table.column_names)
    id_name = id_column or "id"
    if id_name not in table.column_names:
        raise InputError(f"{path}: no column {id_name!r} for the ids; there are {there}; name one with --id")
    titles = [name for name in table.column_names if name.lower() in TITLES]
    title_name = title_column or (titles[0] if titles else None)
    if title_column and title_column not in table.column_names:
        raise InputError(f"{path}: no column {title_column!r} for the titles; there are {there}")
    attributes = {}
    for name in sorted(table.column_names, key=lambda name: name != title_name):
        if name == id_name:
            continue
        column = _typed(path, name, table[name])
        if column is not None:
            attributes["title" if name == title_name else name] = column
    return Catalogue(_ids(path, id_name, table[id_name]), attributes)


def _read(path: str) -> pa.Table:
    plain = path
    for suffix in COMPRESSED:
        plain = plain.removesuffix(suffix)
    kind = os.path.splitext(plain)[1].lower()
    if kind == ".parquet":
        return pa.parquet.read_table(path)
    if kind not in (".csv", ".tsv", ".json", ".ndjson", ".jsonl"):
        raise InputError(f"{path}: not a catalogue by its name; known are .json, .ndjson, .csv, .tsv and .parquet")
    with pa.input_stream(path, compression="detect") as stream:
        if kind in (".csv", ".tsv"):
            options = pa.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True)
            return pa.csv.read_csv(stream, parse_options=options)
        if kind == ".json":
            blocks = iter(lambda: bytes(stream.read(_BLOCK)), b"")
            return _table(path, ijson.items(ijson.from_iter(blocks), "item", use_float=True))
        return _table(path, _lines(path, stream))


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
            yield prefix + name, value


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
    try:
        array = column.cast(wanted).combine_chunks()
    except pa.ArrowException as error:
        raise InputError(f"{path}: column {name!r} of type {kind} does not fit {wanted}: {describe(error)}") from error
    array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    if wanted == pa.float64():
        array = pc.if_else(pc.is_finite(array), array, None)
    return array


def _ids(path: str, name: str, column: pa.ChunkedArray) -> pa.Array:
    if column.null_count:
        row = int(np.flatnonzero(column.is_null().to_numpy())[0])
        raise InputError(f"{path}: item {row + 1} has no id in {name!r}")
    if not (
        pa.types.is_integer(column.type) or pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    ):
        raise InputError(f"{path}: ids in {name!r} are of type {column.type}; ids are integers or text")
    ids: pa.Array = _typed(path, name, column)
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
