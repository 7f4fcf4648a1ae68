"""JSON text of records -> arrays of (a, b, score).

Typed msgspec decoders are the fast lane for valid flat records and hand anything else to `check_record`; ijson streams
JSON that cannot be cut into flat records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import ijson
import msgspec
import numpy as np
import pyarrow as pa

from simshard.ingest.pair_records import (
    Pairs,
    RefusedRecord,
    Shape,
    arrays_of,
    check_record,
    describe,
    finite_float32,
)

_BATCH = 50_000
_BLOCK = 1 << 16
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


class Malformed(Exception):
    """Bytes that are not whole records: the fault is at byte `offset`, or after it, from where the parsing began."""

    def __init__(self, offset: int, reason: str, records: int = 0) -> None:
        super().__init__(offset, reason, records)
        self.offset = offset
        self.reason = reason
        self.records = records


@cache
def _decoder(shape: Shape) -> msgspec.json.Decoder[Any]:
    id_ = int if shape.integer else str
    names = shape.fields or ("a", "b", "score")
    record = msgspec.defstruct(
        "Record",
        [("a", id_), ("b", id_), ("score", float)],
        rename=dict(zip(("a", "b", "score"), names, strict=True)),
        array_like=shape.fields is None,
        forbid_unknown_fields=shape.fields is None,
        gc=False,
    )
    return msgspec.json.Decoder(list[record])  # type: ignore[valid-type]


@cache
def _line_decoder(shape: Shape) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(_decoder(shape).type.__args__[0])


def parse_array(text: bytes, closed: bool, shape: Shape) -> Pairs:
    """The records inside a JSON array; `closed`: with the closing bracket. Raises RefusedRecord, Malformed."""
    document = b"".join((b"[", text, b"" if closed else b"]"))
    try:
        return _columns(_decoder(shape).decode(document), shape)
    except (msgspec.ValidationError, OverflowError, ValueError) as error:
        if isinstance(error, msgspec.DecodeError) and not isinstance(error, msgspec.ValidationError):
            raise _malformed(error, len(text)) from error
    try:
        records = msgspec.json.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _malformed(error, len(text)) from error
    return _checked(records, shape)


def parse_lines(text: bytes, shape: Shape) -> Pairs:
    """The records of NDJSON, blank lines passed over. Raises RefusedRecord with the line's index."""
    try:
        return _columns(_line_decoder(shape).decode_lines(text), shape)
    except (msgspec.DecodeError, OverflowError, ValueError):
        pass
    pairs = []
    for index, line in enumerate(text.split(b"\n")):
        if not line.strip():
            continue
        try:
            pairs.append(check_record(msgspec.json.decode(line), shape))
        except msgspec.DecodeError as error:
            raise RefusedRecord(index, f"not valid JSON ({error})", "line") from error
        except ValueError as error:
            raise RefusedRecord(index, str(error), "line") from error
    return arrays_of(pairs, shape)


def stream_array(blocks: Iterable[bytes], shape: Shape, careful: int | None = None) -> Iterator[Pairs]:
    """The records of a whole JSON array, streamed by ijson in batches. Raises RefusedRecord, Malformed.

    A fault is known to the block of 64 KB and may hide the last records before it; from byte `careful` on, bytes are
    fed one by one, which finds the very byte and record.
    """
    accepted = 0

    def parts() -> Iterator[bytes]:
        nonlocal accepted
        for block in blocks:
            start = 0
            while start < len(block):
                step = 1 if careful is not None and accepted >= careful else _BLOCK
                part = block[start : start + step]
                start += step
                yield part
                accepted += len(part)

    count = 0
    batch: list[tuple[Any, Any, float]] = []
    try:
        for record in ijson.items(ijson.from_iter(parts()), "item"):  # use_float would refuse integers of 64 bits
            batch.append(check_record(record, shape))
            count += 1
            if len(batch) == _BATCH:
                yield arrays_of(batch, shape)
                batch = []
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise Malformed(accepted, describe(error), count) from error
    except ValueError as error:
        raise RefusedRecord(count, str(error)) from error
    if batch:
        yield arrays_of(batch, shape)


def lone_surrogate(text: bytes) -> int | None:
    """Where in JSON text half of a surrogate pair is escaped, which ijson would read as a question mark."""
    if b"\\ud" not in text and b"\\uD" not in text:
        return None
    high: re.Match[bytes] | None = None
    for escape in _ESCAPE.finditer(text):
        code = int(escape[1], 16) if escape[1] else 0
        low = 0xDC00 <= code < 0xE000
        if high is not None and not (low and escape.start() == high.end()):
            return high.start()
        if low and high is None:
            return escape.start()
        high = escape if 0xD800 <= code < 0xDC00 else None
    return high.start() if high else None


def _malformed(error: Exception, length: int) -> Malformed:
    """The fault in a text of `length` bytes that msgspec saw with a bracket before it and perhaps one after it."""
    reason = describe(error)
    place = reason.rpartition("(byte ")[2].rstrip(")")
    offset = int(place) - 1 if place.isdigit() else length
    return Malformed(max(min(offset, length), 0), reason.partition(" (byte")[0])


def _columns(records: list[Any], shape: Shape) -> Pairs:
    """Arrays of typed records. Raises ValueError or OverflowError for those that `check_record` must look at."""
    count = len(records)
    scores = np.fromiter([record.score for record in records], np.float64, count)
    if shape.integer:
        a = pa.array(np.fromiter([record.a for record in records], np.int64, count))
        b = pa.array(np.fromiter([record.b for record in records], np.int64, count))
    else:
        a = pa.array([record.a for record in records], pa.string())
        b = pa.array([record.b for record in records], pa.string())
        if not all(record.a and record.b for record in records):
            raise ValueError("an empty id")
    return Pairs(a, b, finite_float32(scores))


def _checked(records: list[Any], shape: Shape) -> Pairs:
    pairs = []
    for index, record in enumerate(records):
        try:
            pairs.append(check_record(record, shape))
        except ValueError as error:
            raise RefusedRecord(index, str(error)) from error
    return arrays_of(pairs, shape)
