"""JSON files of pairs: recognise a file's shape, and cut it into pieces at record boundaries.

Flat documents are cut into byte ranges that are parsed in parallel (`records.py`). A cut is a guess, `}` before `,`
before `{`, that can fall inside a string or a nested value; but a piece that starts at a true boundary and parses as
whole records ends at one too, so pieces accepted in order are exactly the document's records.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import ijson
import msgspec

from simshard.ingest.pair_records import (
    Malformed,
    Pairs,
    RefusedRecord,
    Shape,
    check_record,
    describe,
    parse_array,
    parse_lines,
)
from simshard.ingest.streams import COMPRESSED, STDIN, Stream, source_name
from simshard.shards.errors import InputError

Format = Literal["json", "ndjson"]
FORMATS: dict[str, Format] = {".json": "json", ".ndjson": "ndjson", ".jsonl": "ndjson"}
KNOWN_FIELDS = (
    ("a", "b", "score"),
    ("source", "target", "score"),
    ("source", "target", "weight"),
    ("source", "target", "similarity"),
    ("id1", "id2", "similarity"),
    ("id1", "id2", "score"),
    ("item_a", "item_b", "score"),
    ("item1", "item2", "score"),
)
KNOWN_TEXT = "; ".join(",".join(fields) for fields in KNOWN_FIELDS)
KNOWN_SHAPES = (
    'a JSON array of objects [{"a":1,"b":2,"score":0.5},...], a JSON array of triples [[1,2,0.5],...], '
    "or NDJSON with one such object or triple a line"
)

_WINDOW = 1 << 16
_LONGEST_RECORD = 16 << 20
_PARSED_AT_ONCE = 2 << 20
_BLANK = b" \t\r\n"
_BOM = b"\xef\xbb\xbf"
_PARQUET = b"PAR1"


@dataclass(frozen=True)
class Source:
    """A pair file (or stdin) whose shape is known; `start` is the byte offset of its first record."""

    path: str
    format: Format
    shape: Shape
    start: int
    size: int | None

    @property
    def name(self) -> str:
        """The file as messages call it."""
        return source_name(self.path)

    @property
    def boundary(self) -> re.Pattern[bytes]:
        """What stands between two records."""
        if self.format == "ndjson":
            return re.compile(rb"\n")
        return re.compile(rb"(?<=\})\s*,\s*(?=\{)" if self.shape.fields else rb"(?<=\])\s*,\s*(?=\[)")


@dataclass(frozen=True)
class Piece:
    """Whole records of a source: bytes `start` to `stop` of its decompressed content, given as `data` or read there.

    `last` marks the end of the document. A piece of JSON has no opening bracket, and the closing one only if `last`.
    """

    source: Source
    start: int
    stop: int
    last: bool
    data: bytes | None = None

    def read(self) -> bytes:
        """The piece's bytes."""
        if self.data is not None:
            return self.data
        with open(self.source.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


def recognise(path: str, stream: Stream, format_: str | None = None, fields: tuple[str, ...] | None = None) -> Source:
    """What the head of a pair file says of its shape. Raises InputError for a file that is of no known one."""
    start = len(_BOM) if stream.head.startswith(_BOM) else 0
    text = stream.head[start:].lstrip(_BLANK)
    if not text:
        raise InputError(f"{stream.name}: empty; there are no pairs to build from")
    found = _format(path, text, format_)
    if found == "json":
        inside = text[1:].lstrip(_BLANK)
        if text[:1] == b"[" and inside[:1] == b"]":
            raise InputError(f"{stream.name}: an empty array; there are no pairs to build from")
        if text[:1] != b"[" or inside[:1] not in (b"{", b"["):
            hint = "; for one JSON value a line, say --format ndjson" if text[:1] in (b"{", b"[") else ""
            raise InputError(
                f"{stream.name}: unknown shape, it starts with {_show(text)}; expected {KNOWN_SHAPES}{hint}"
            )
        start = len(stream.head) - len(inside)
        first = _first_item(stream.name, text)
    else:
        first = _first_line(stream.name, text)
    names = None if isinstance(first, list) else _fields(stream.name, first, fields)
    integer = not isinstance(first[0] if isinstance(first, list) else first.get(names[0] if names else ""), str)
    shape = Shape(names, integer)
    try:
        check_record(first, shape)
    except ValueError as error:
        raise InputError(f"{stream.name}: record 1: {error}") from error
    plain = path != STDIN and not path.endswith(COMPRESSED) and os.path.isfile(path)
    return Source(path, found, shape, start, os.stat(path).st_size if plain else None)


def _format(path: str, text: bytes, format_: str | None) -> Format:
    if text.startswith(_PARQUET):
        hint = "write it to a file, and name that" if path == STDIN else "say --format parquet"
        raise InputError(f"{source_name(path)}: it is Parquet by its first bytes; {hint}")
    if format_ is not None:
        if format_ not in FORMATS.values():
            raise InputError(f"--format {format_}: known formats are json, ndjson and parquet")
        return "json" if format_ == "json" else "ndjson"
    if path == STDIN:
        return "json" if text[:1] == b"[" and text[1:].lstrip(_BLANK)[:1] in (b"[", b"{", b"]") else "ndjson"
    plain = path
    for suffix in COMPRESSED:
        plain = plain.removesuffix(suffix)
    suffix = os.path.splitext(plain)[1].lower()
    if suffix not in FORMATS:
        raise InputError(f"{path}: the format is not told by the name; say --format json, ndjson or parquet")
    return FORMATS[suffix]


def _show(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))


def _first_item(name: str, text: bytes) -> Any:
    try:
        return next(ijson.items(io.BytesIO(text), "item"))
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: record 1 is not valid JSON ({describe(error)}); it starts with {_show(text)}"
        ) from error


def _first_line(name: str, text: bytes) -> Any:
    try:
        first = msgspec.json.decode(text.split(b"\n", 1)[0])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: line 1 is not valid JSON ({error}); it starts with {_show(text)}") from error
    if not isinstance(first, dict | list):
        raise InputError(f"{name}: unknown shape, it starts with {_show(text)}; expected {KNOWN_SHAPES}")
    return first


def match_fields(there: Collection[str], given: tuple[str, ...] | None) -> tuple[str, str, str] | None:
    """The fields that hold ids and score: those given, or else known ones; None where they are not all there."""
    for known in (given,) if given else KNOWN_FIELDS:
        if len(known) == 3 and all(field in there for field in known):
            return known[0], known[1], known[2]
    return None


def _fields(name: str, first: dict[str, Any], given: tuple[str, ...] | None) -> tuple[str, str, str]:
    names = match_fields(first, given)
    if names is not None:
        return names
    there = ", ".join(first) or "none"
    if given:
        missing = [field for field in given if field not in first]
        raise InputError(f"{name}: record 1 has no field {', '.join(map(repr, missing))}; its fields: {there}")
    raise InputError(
        f"{name}: the fields of record 1 are {there}, which are none of those known ({KNOWN_TEXT}); "
        "say which hold the pair with --fields A,B,SCORE"
    )


def cut(source: Source, stream: Stream | None, size: int) -> Iterator[Piece]:
    """Pieces of about `size` bytes, in order: ranges of a plain file, data of a stream otherwise. Raises InputError."""
    if source.size is not None:
        return _cut_file(source, size)
    assert stream is not None
    return _cut_stream(source, stream, size)


def _cut_file(source: Source, size: int) -> Iterator[Piece]:
    assert source.size is not None
    start = source.start
    with open(source.path, "rb") as file:
        while start + size < source.size:
            found, window = None, _WINDOW
            while found is None and window <= _LONGEST_RECORD:
                file.seek(start + size)
                text = file.read(window)
                found = source.boundary.search(text)
                if found is None and len(text) < window:
                    break
                window *= 16
            else:
                _check_found(found, source, start + size)
            if found is None:
                break
            yield Piece(source, start, start + size + found.start(), False)
            start += size + found.end()
    yield Piece(source, start, source.size, True)


def _cut_stream(source: Source, stream: Stream, size: int) -> Iterator[Piece]:
    stream.read(source.start)
    start = source.start
    buffer = b""
    while True:
        found = None
        more = True
        while more and (found is None and len(buffer) <= size + _LONGEST_RECORD):
            data = stream.read(size)
            more = bool(data)
            buffer += data
            found = source.boundary.search(buffer, size)
        if found is None:
            if more:
                _check_found(found, source, start + size)
            yield Piece(source, start, start + len(buffer), True, buffer)
            return
        yield Piece(source, start, start + found.start(), False, buffer[: found.start()])
        start += found.end()
        buffer = buffer[found.end() :]


def _check_found(found: re.Match[bytes] | None, source: Source, offset: int) -> None:
    if found is None:
        raise InputError(
            f"{source.name}: no record ends within {_LONGEST_RECORD >> 20} MiB after byte {offset}; "
            "records that long are not pairs"
        )


def parse(piece: Piece) -> Iterator[tuple[Pairs, int]]:
    """The records of a piece, a few MB of text at a time, each with the number of records (NDJSON: lines) there.

    Raises RefusedRecord and Malformed with places counted from the piece's start.
    """
    text = piece.read()
    source = piece.source
    records = start = 0
    while start < len(text):
        found = source.boundary.search(text, start + _PARSED_AT_ONCE) if len(text) > start + _PARSED_AT_ONCE else None
        part = text[start : found.start() if found else len(text)]
        try:
            if source.format == "ndjson":
                pairs = parse_lines(part, source.shape)
                count = part.count(b"\n") + 1
            else:
                pairs = parse_array(part, piece.last and found is None, source.shape)
                count = len(pairs.scores)
        except RefusedRecord as error:
            raise RefusedRecord(records + error.index, error.reason) from error
        except Malformed as error:
            raise Malformed(start + error.offset, error.reason, records) from error
        yield pairs, count
        records += count
        start = found.end() if found else len(text)
