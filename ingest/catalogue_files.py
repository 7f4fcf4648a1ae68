"""Catalogue files (JSON, NDJSON, CSV, TSV, Parquet) -> one Arrow table, nested fields under dotted names."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from typing import Any

import ijson
import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from simshard.ingest.pair_records import describe
from simshard.ingest.streams import COMPRESSED
from simshard.shards.errors import InputError

UNKNOWN = ("", "UNKNOWN")  # cells that say that nothing is known
_BATCH = 20_000
_BLOCK = 1 << 20
_INTEGER = r"^(0|-?[1-9][0-9]{0,18})$"
_BOM = b"\xef\xbb\xbf"


def read_table(path: str, id_name: str, inside: str | None, texts: Iterable[str]) -> pa.Table:
    """All items of a file, an item a row. Raises InputError with the file and the place.

    inside: dotted place of the array in a JSON document; texts: columns of a CSV file that are text whatever they hold.
    Ids of a CSV file are integers where all of them are written as integers are, else text: 007 stays 007.
    """
    kind = _kind(path, inside)
    try:
        if kind == ".parquet":
            table = pa.parquet.read_table(path, page_checksum_verification=True)
            while any(pa.types.is_struct(column.type) for column in table.schema):
                table = table.flatten()
        else:
            with pa.input_stream(path, compression="detect") as stream:
                table = _read(path, kind, stream, inside, id_name, texts)
        where = f" at --path {inside!r}" if inside else ""
        if not len(table) and kind == ".json":
            with pa.input_stream(path, compression="detect") as stream:
                raise InputError(f"{path}: no items{where}{_instead(stream)}")
    except (OSError, ValueError, pa.ArrowException) as error:
        raise InputError(f"{path}: cannot be read as a catalogue: {describe(error)}") from error
    if not len(table):
        raise InputError(f"{path}: no items")
    if kind in (".csv", ".tsv") and table.column_names.count(id_name) == 1:
        table = _with_integer_ids(table, table.column_names.index(id_name))
    for name in table.column_names:
        if table.column_names.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}; rename one")
    return table


def _kind(path: str, inside: str | None) -> str:
    plain = path
    for suffix in COMPRESSED:
        plain = plain.removesuffix(suffix)
    kind = os.path.splitext(plain)[1].lower()
    if inside is not None and kind != ".json":
        raise InputError(f"{path}: --path names a place in a JSON document, which this is not by its name")
    if kind not in (".csv", ".tsv", ".json", ".ndjson", ".jsonl", ".parquet"):
        raise InputError(f"{path}: not a catalogue by its name; known are .json, .ndjson, .csv, .tsv and .parquet")
    if not os.path.isfile(path):
        raise InputError(f"{path}: there is no such file")
    return kind


def _read(
    path: str, kind: str, stream: pa.NativeFile, inside: str | None, id_name: str, texts: Iterable[str]
) -> pa.Table:
    if kind == ".json":
        place = f"{inside}.item" if inside else "item"
        return _table(path, _items(path, stream, place), id_name)
    if kind in (".ndjson", ".jsonl"):
        return _table(path, _lines(path, stream), id_name)
    missing = [*pa.csv.ConvertOptions().null_values, *UNKNOWN]
    types = dict.fromkeys((id_name, *texts), pa.string())
    table = pa.csv.read_csv(
        stream,
        pa.csv.ReadOptions(use_threads=False),  # then a fault is told with its row
        pa.csv.ParseOptions(delimiter="\t" if kind == ".tsv" else ",", newlines_in_values=True),
        pa.csv.ConvertOptions(null_values=missing, strings_can_be_null=False, column_types=types),
    )
    for column in table.schema:
        if pa.types.is_binary(column.type):
            raise InputError(f"{path}: column {column.name!r} is not UTF-8 text; convert the file")
    return table


def _with_integer_ids(table: pa.Table, place: int) -> pa.Table:
    if pc.all(pc.match_substring_regex(table[place], _INTEGER)).as_py():
        with suppress(pa.ArrowInvalid):  # beyond 64 bits
            return table.set_column(place, table.column_names[place], table[place].cast(pa.int64()))
    return table


def _blocks(stream: pa.NativeFile) -> Iterator[bytes]:
    block = bytes(stream.read(_BLOCK)).removeprefix(_BOM)
    while block:
        yield block
        block = bytes(stream.read(_BLOCK))


def _instead(stream: pa.NativeFile) -> str:
    """What a JSON document without items at the place holds."""
    events = ijson.parse(ijson.from_iter(_blocks(stream)))
    keys = [value for place, event, value in events if event == "map_key" and place == ""]
    return f": the document is an object with {', '.join(keys[:20])}; name the array in it with --path" if keys else ""


def _items(path: str, stream: pa.NativeFile, place: str) -> Iterator[Any]:
    """The items of a JSON array, decimal numbers as floats."""
    count = 0
    try:
        for item in ijson.items(ijson.from_iter(_blocks(stream)), place, use_float=True):
            yield item
            count += 1
    except ijson.JSONError as error:
        if "integer overflow" not in str(error):
            raise
        # Its fast numbers end before the least of 64 bits; its exact ones take several times as long.
        with pa.input_stream(path, compression="detect") as again:
            yield from map(_floats, islice(ijson.items(ijson.from_iter(_blocks(again)), place), count, None))


def _floats(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _floats(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_floats(each) for each in value]
    return float(value) if isinstance(value, Decimal) else value


def _lines(path: str, stream: pa.NativeFile) -> Iterator[Any]:
    rest = b""
    number = 0
    for block in _blocks(stream):
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


def _table(path: str, records: Iterable[Any], id_name: str) -> pa.Table:
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

    try:
        for record in records:
            if not isinstance(record, dict):
                raise InputError(f"{path}: item {first + count + 1} is not an object but {record!r:.60}")
            for name, value in _flat(record):
                values = columns.setdefault(name, [])
                if len(values) > count:
                    raise InputError(f"{path}: item {first + count + 1} has the field {name!r} twice")
                values.extend([None] * (count - len(values)))
                values.append(None if name != id_name and isinstance(value, str) and value in UNKNOWN else value)
            count += 1
            if count == _BATCH:
                close()
                first, count, columns = first + count, 0, {}
    except ijson.JSONError as error:
        raise InputError(f"{path}: not valid JSON after item {first + count}: {describe(error)}") from error
    if columns:
        close()
    return pa.concat_tables(tables, promote_options="permissive") if tables else pa.table({})


def _flat(record: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in record.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value
