"""Records of pairs -> arrays of (a, b, score), whatever the format. `check_record` alone defines which are valid."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
_INT64 = range(-(2**63), 2**63)


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
    """Record `index`, from 0 where the parsing began, is not a valid pair; `unit`: what is counted, such as lines."""

    def __init__(self, index: int, reason: str, unit: str = "record") -> None:
        super().__init__(index, reason, unit)
        self.index = index
        self.reason = reason
        self.unit = unit


def match_fields(there: Collection[str], given: tuple[str, ...] | None) -> tuple[str, str, str] | None:
    """The fields that hold ids and score: those given, or else known ones; None where they are not all there."""
    for known in (given,) if given else KNOWN_FIELDS:
        if len(known) == 3 and all(field in there for field in known):
            return known[0], known[1], known[2]
    return None


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


def finite_float32(scores: NDArray[np.float64]) -> NDArray[np.float32]:
    """Scores (M,) as they are stored, without -0.0. Raises ValueError where one is no finite float32."""
    with np.errstate(over="ignore"):
        narrow = scores.astype(np.float32)
    if not np.isfinite(narrow).all():
        raise ValueError("a score that is no finite float32")
    return narrow + np.float32(0.0)


def arrays_of(pairs: list[tuple[Any, Any, float]], shape: Shape) -> Pairs:
    """What `check_record` said of each record, as arrays."""
    kind = pa.int64() if shape.integer else pa.string()
    a, b, scores = zip(*pairs, strict=True) if pairs else ((), (), ())
    return Pairs(pa.array(a, kind), pa.array(b, kind), finite_float32(np.array(scores, dtype=np.float64)))
