"""What features a catalogue is scored by: flags, TOML files, defaults; checked against the columns that there are."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import pyarrow as pa

from simshard.ingest.catalogue import Catalogue
from simshard.shards.errors import InputError

Kind = Literal["set", "number", "category", "vector"]
KINDS = get_args(Kind)
MEASURES = ("cosine", "jaccard")
MAX_FEATURES = 64
_LEAST_SHARE = 1e-30  # of the sum of weights: float32 holds it
_KEYS: dict[str, type | tuple[type, ...]] = {
    "column": str,
    "kind": str,
    "weight": (int, float),
    "measure": str,
    "idf": bool,
    "split": str,
}
_SHAPE = "COLUMN:KIND[:OPTION]=WEIGHT, where KIND is set (options cosine, jaccard, idf), number, category or vector"


@dataclass(frozen=True)
class FeatureSpec:
    """One feature: a column (or the .npy file beside the catalogue), how its values compare, and how much it counts.

    measure and idf are for sets; split parts the texts of a column that holds lists as text.
    """

    column: str
    kind: Kind
    weight: float = 1.0
    measure: str = "cosine"
    idf: bool = False
    split: str | None = None

    def __str__(self) -> str:
        options = [":jaccard"] * (self.measure == "jaccard") + [":idf"] * self.idf
        return f"{self.column}:{self.kind}{''.join(options)}"


DEFAULTS = (
    (FeatureSpec("tags", "set", 0.6),),
    (FeatureSpec("rating", "number", 0.2), FeatureSpec("score", "number", 0.2)),
    (FeatureSpec("year", "number", 0.15),),
    (FeatureSpec("type", "category", 0.05),),
)


def parse_feature(text: str) -> FeatureSpec:
    """The feature of a flag, COLUMN:KIND[:OPTION]=WEIGHT; without a weight it has 1. Raises InputError."""
    rest, _, last = text.rpartition("=")
    try:
        weight = float(last)
    except ValueError:
        rest, weight = text, 1.0
    parts = rest.split(":")
    options = set()
    while parts and parts[-1] in (*MEASURES, "idf"):
        options.add(parts.pop())
    kind = parts.pop() if parts else ""
    column = ":".join(parts)
    if kind not in KINDS or not column or options >= set(MEASURES):
        raise InputError(f"{text!r} is not {_SHAPE}")
    measure = "jaccard" if "jaccard" in options else "cosine"
    return _checked(repr(text), FeatureSpec(column, cast(Kind, kind), weight, measure, "idf" in options), options)


def read_features(path: str) -> tuple[list[FeatureSpec], str]:
    """The features of a TOML file, an array of tables `feature`, and its text. Raises InputError."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        content = tomllib.loads(text)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as TOML ({error})") from error
    entries = content.pop("feature", None)
    if content or not entries or not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        found = f", but found {', '.join(content)}" if content else ""
        raise InputError(f"{path}: holds [[feature]] tables and nothing else{found}")
    specs = []
    for number, entry in enumerate(entries, 1):
        place = f"{path}: feature {number}"
        for key, value in entry.items():
            if key not in _KEYS:
                raise InputError(f"{place}: no such key {key!r}; there are {', '.join(_KEYS)}")
            if not isinstance(value, _KEYS[key]) or (isinstance(value, bool) and key != "idf"):
                raise InputError(f"{place}: {key} = {value!r} has the wrong type")
        if not entry.get("column") or entry.get("kind") not in KINDS:
            raise InputError(f"{place}: needs a column, and a kind out of {', '.join(KINDS)}")
        if entry.get("measure", "cosine") not in MEASURES:
            raise InputError(f"{place}: measure is {' or '.join(MEASURES)}, not {entry['measure']!r}")
        if entry.get("split") == "":
            raise InputError(f"{place}: split is empty")
        weight = entry.get("weight", 1.0)
        weight = float(weight) if abs(weight) < 1e300 else math.inf
        spec = FeatureSpec(**{**entry, "weight": weight})
        options = {entry.get("measure", ""), *({"idf", "split"} & set(entry))} - {""}
        specs.append(_checked(place, spec, options))
    return specs, text


def _checked(place: str, spec: FeatureSpec, options: set[str]) -> FeatureSpec:
    if not math.isfinite(spec.weight) or spec.weight < 0:
        raise InputError(f"{place}: a weight is a number >= 0, not {spec.weight:g}")
    if spec.kind != "set" and options - ({"cosine"} if spec.kind == "vector" else set()):
        raise InputError(f"{place}: cosine, jaccard, idf and split are options of kind set, not of {spec.kind}")
    return spec


def weighted(specs: Iterable[FeatureSpec]) -> list[FeatureSpec]:
    """Those that count, in order. Raises InputError for weights that cannot be summed, and features given twice."""
    chosen = [spec for spec in specs if spec.weight > 0]
    if not chosen:
        raise InputError("all features have weight 0; give at least one a weight above 0")
    if len(chosen) > MAX_FEATURES:
        raise InputError(f"{len(chosen)} features, but at most {MAX_FEATURES} can be combined")
    names = [str(spec) for spec in chosen]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"feature {name!r} is given twice; add the weights up in one")
    total = sum(spec.weight for spec in chosen)
    for spec in chosen:
        if not math.isfinite(total) or spec.weight / total < _LEAST_SHARE:
            raise InputError(f"feature {str(spec)!r}: weight {spec.weight:g} cannot be summed with the others")
    return chosen


def default_features(path: str, catalogue: Catalogue) -> list[FeatureSpec]:
    """The defaults whose columns exist with a type that fits. Raises InputError, listing the columns, if none does."""
    chosen = []
    for choices in DEFAULTS:
        fitting = [spec for spec in choices if _fits(spec.kind, catalogue.attributes.get(spec.column))]
        chosen += fitting[:1]
    if not chosen:
        names = ", ".join(f"{spec.column}:{spec.kind}" for choices in DEFAULTS for spec in choices)
        raise InputError(
            f"{path}: none of the default features ({names}) fits; name some with --feature {_SHAPE}. "
            f"There are {columns(catalogue)}"
        )
    return chosen


def _fits(kind: Kind, column: pa.Array | None) -> bool:
    if column is None:
        return False
    numbers = bool(pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
    lists = bool(pa.types.is_list(column.type))
    fits: dict[Kind, bool] = {"set": not numbers, "number": numbers, "category": not lists, "vector": False}
    return fits[kind]


def columns(catalogue: Catalogue) -> str:
    """The columns of a catalogue with what they hold, for messages."""
    found: dict[str, Any] = {**catalogue.vectors, **catalogue.attributes}
    return ", ".join(f"{name} ({holds(column.type)})" for name, column in found.items()) or "no columns but the ids"


def holds(kind: pa.DataType) -> str:
    """What a column of this type holds, in words."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = kind.value_type
        return f"lists of {'text' if pa.types.is_string(inner) or pa.types.is_null(inner) else 'numbers'}"
    if pa.types.is_integer(kind):
        return "whole numbers"
    return "decimal numbers" if pa.types.is_floating(kind) else "text"
