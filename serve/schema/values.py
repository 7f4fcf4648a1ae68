"""What requests are made of: ids, texts, numbers and names, each checked; and the base of their models."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StrictStr

FILTER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

NO_TEXT = "half of a surrogate pair is no text"


def is_text(value: str) -> bool:
    """Whether a string can be written as UTF-8, which JSON's escapes do not promise."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_text(value: Any) -> Any:
    if isinstance(value, str) and not is_text(value):
        raise ValueError(NO_TEXT)
    return value


def _check_id(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("an id is an integer or text")
    return _check_text(value)


def _check_value(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("a value is a number or text")
    return _check_finite(_check_text(value))


def _check_number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("a number is needed")
    return _check_finite(value)


def _check_finite(value: Any) -> Any:
    try:
        finite = isinstance(value, str) or math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise ValueError("a finite number is needed")
    beyond = (
        isinstance(value, int) and not -(2**63) <= value < 2**64
    )  # of what any column holds, and JSON writers write
    return float(value) if beyond else value


def check_filter_name(value: Any) -> Any:
    """The value, unless it is text that cannot name a filter. Raises ValueError."""
    if isinstance(value, str) and not FILTER_NAME.fullmatch(value):
        raise ValueError("a filter is an object, or the name of one: letters, digits, - and _")
    return value


Id = Annotated[int | str, BeforeValidator(_check_id)]
Value = Annotated[int | float | str, BeforeValidator(_check_value)]
Number = Annotated[int | float, BeforeValidator(_check_number)]
Text = Annotated[StrictStr, BeforeValidator(_check_text)]
FilterName = Annotated[StrictStr, Field(pattern=f"^{FILTER_NAME.pattern}$")]
IdText = Annotated[Text, Field(min_length=1, description="The item's id as text.")]


class Model(BaseModel):
    """A part of a request: no field that is not known, nothing changed after it was checked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def _exactly_one(self, *names: str) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            known = ", ".join(name.rstrip("_") for name in names)
            raise ValueError(f"exactly one of {known} is needed" + (f", not {len(given)}" if given else ""))

    @classmethod
    def text_fields(cls) -> Mapping[str, str]:
        """Parameters that stand in a query string as plain text, unless they begin with one of these letters.

        Those that take nothing but text have none. All others, which are not named, are JSON.
        """
        return _text_fields(cls)


_BEGINNINGS = {"object": '{"', "array": '["'}  # of JSON that may stand in place of text


@functools.cache
def _text_fields(model: type[Model]) -> Mapping[str, str]:
    schema = model.model_json_schema()
    found = {}
    for name, field in schema["properties"].items():
        kinds = set(_kinds(field, schema.get("$defs", {})))
        if "string" in kinds:
            found[name] = "".join(sorted(set("".join(_BEGINNINGS.get(kind, "") for kind in kinds))))
    return found


def _kinds(schema: Mapping[str, Any], named: Mapping[str, Any]) -> Iterator[str]:
    """The types of JSON that a schema allows; named: what its references stand for."""
    if "$ref" in schema:
        yield from _kinds(named[schema["$ref"].rpartition("/")[2]], named)
        return
    choices = schema.get("anyOf", schema.get("oneOf"))
    for choice in choices or ():
        yield from _kinds(choice, named)
    values = schema.get("enum", [schema["const"]] if "const" in schema else [])
    if "type" in schema:
        yield schema["type"]
    elif any(isinstance(value, str) for value in values):
        yield "string"
