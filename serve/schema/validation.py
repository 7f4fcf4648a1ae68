"""Values -> requests, and what is wrong with them as one fault; names of filters -> what they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from simshard.serve.schema.filters import Filter
from simshard.shards.errors import InvalidQuery

M = TypeVar("M", bound=BaseModel)
_TAGS = ("<seed>", "<id>", "<name>", "<conditions>")  # pydantic's names for kinds of values, which stand in no request


def parse(model: type[M], values: Any) -> M:
    """The request that these values are. Raises InvalidQuery, naming the field at fault."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise fault_of(error.errors()) from error


def fault_of(errors: Sequence[Any]) -> InvalidQuery:
    """The first of pydantic's errors, with its place as in the request."""
    first = errors[0]
    place = [part for part in first["loc"] if part not in _TAGS]
    field = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".")
    message = "no such field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
    return InvalidQuery(field or "body", message)


def expand(given: Filter | str, named: Mapping[str, Any], place: str) -> Mapping[str, Any]:
    """A filter as plain JSON for `compile_filter`, with what its names stand for. Raises InvalidQuery."""

    def look_up(name: str, where: str) -> Any:
        if name not in named:
            raise InvalidQuery(where, f"no filter is named {name!r}; there are {', '.join(named) or 'none'}")
        return named[name]

    if isinstance(given, str):
        return look_up(given, place)  # type: ignore[no-any-return]
    plain = given.model_dump(by_alias=True, exclude_none=True)
    for part, conditions in plain.items():
        for i, condition in enumerate(conditions):
            if "filter" in condition:
                condition["filter"] = look_up(condition["filter"], f"{place}.{part}[{i}].filter")
    return plain
