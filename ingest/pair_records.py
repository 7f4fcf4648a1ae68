"""Records of pairs -> arrays of (a, b, score).

`check_record` alone defines which records are valid. Typed msgspec decoders are the fast lane for pieces of valid
flat records and hand anything else to it; ijson streams JSON that cannot be cut into flat records.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any, NamedTuple

import ijson
import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

_INT64 = range(-(2**63), 2**63)
_BATCH = 50_000
_BLOCK = 1 << 16
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


@dataclass(frozen=True)
class Shape:
    """What one record looks like: names of the fields of an object (None: a triple), ids integers or strings."""

    fields: tuple[str, str, str] | None
    integer: bool


class Pairs(NamedTuple):
    """Parsed records: ids (M,) int64 or string, scores float32 (M,), finite, never -0.0."""

    a: pa.Array
    b: pa.Array
    scores: NDArray[np.float32]


class RefusedRecord(Exception):
    """Record `index`, from 0 where the parsing began, is not a valid pair."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(index, reason)
        self.index = index
        self.reason = reason


class Malformed(Exception):
    """Bytes that are not whole records: the fault is at byte `offset`, or after it, from where the parsing began."""

    def __init__(self, offset: int, reason: str, records: int = 0) -> None:
        super().__init__(offset, reason, records)
        self.offset = offset
        self.reason = reason
        self.records = records


def check_record(record: Any, shape: Shape) -> tuple[Any, Any, float]:
    """The pair of a decoded record: ids and score. Raises ValueError with the reason for refusing it."""
    if shape.fields is None:
        if not isinstance(record, list):
            raise ValueError(f"expected a triple [a, b, score], found {_kind(record)}")
        if len(record) != 3:
            raise ValueError(f"expected a triple [a, b, score], found {len(record)} values")
        values, names = record, ("a", "b", "score")
    else:
        names = shape.fields
        if not isinstance(record, dict):
            raise ValueError(f"expected an object with {', '.join(names)}, found {_kind(record)}")
        for name in names:
            if name not in record:
                raise ValueError(f"field {name!r} is missing")
        values = [record[name] for name in names]
    for name, value in zip(names[:2], values[:2], strict=True):
        _check_id(name, value, shape.integer)
    return values[0], values[1], _score(names[2], values[2])


def _check_id(name: str, value: Any, integer: bool) -> None:
    if value is None:
        raise ValueError(f"id {name!r} is null")
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise ValueError(f"id {name!r} is {_kind(value)}; ids are integers or text")
    if isinstance(value, int) != integer:
        kinds = ("integers", "text") if integer else ("text", "integers")
        raise ValueError(f"id {name!r} is {_kind(value)}, but the ids of this build are {kinds[0]}")
    if isinstance(value, int) and value not in _INT64:
        raise ValueError(f"id {name!r} is {value}, which does not fit 64 bits; give such ids as text")
    if value == "":
        raise ValueError(f"id {name!r} is empty text")
    if isinstance(value, str):
        value.encode()


def _score(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise ValueError(f"score {name!r} is {_kind(value)}, not a number")
    try:
        with np.errstate(over="ignore"):
            score = float(value)
            finite = math.isfinite(score) and math.isfinite(np.float32(score))
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError(f"score {name!r} is {value!s:.40}, which is not a finite float32")
    return score


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"text ({value[:40]!r})"
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def describe(error: Exception) -> str:
    """The first line of a parser's message."""
    return str(error).strip().split("\n", maxsplit=1)[0] or type(error).__name__


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
            raise RefusedRecord(index, f"not valid JSON ({error})") from error
        except ValueError as error:
            raise RefusedRecord(index, str(error)) from error
    return _arrays(pairs, shape)


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
                yield _arrays(batch, shape)
                batch = []
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise Malformed(accepted, describe(error), count) from error
    except ValueError as error:
        raise RefusedRecord(count, str(error)) from error
    if batch:
        yield _arrays(batch, shape)


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
    return Pairs(a, b, _float32(scores))


def _float32(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError("a score that is no finite float32")
    return narrow + np.float32(0.0)


def _checked(records: list[Any], shape: Shape) -> Pairs:
    pairs = []
    for index, record in enumerate(records):
        try:
            pairs.append(check_record(record, shape))
        except ValueError as error:
            raise RefusedRecord(index, str(error)) from error
    return _arrays(pairs, shape)


def _arrays(pairs: list[tuple[Any, Any, float]], shape: Shape) -> Pairs:
    kind = pa.int64() if shape.integer else pa.string()
    a, b, scores = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Pairs(pa.array(a, kind), pa.array(b, kind), _float32(np.array(scores, dtype=np.float64)))
