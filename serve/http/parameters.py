"""Requests out of query strings, in which objects and lists are JSON, and out of bodies."""

from __future__ import annotations

import json
from typing import Any, TypeVar

import orjson
from starlette.requests import Request

from simshard.serve.schema.validation import parse
from simshard.serve.schema.values import Model
from simshard.shards.errors import InvalidQuery, SimshardError

M = TypeVar("M", bound=Model)


class InvalidBody(SimshardError):
    """A body that is no JSON."""


def from_query(model: type[M], request: Request, **in_path: str) -> M:
    """The request in a query string: text for names and ids, JSON for all else. Raises InvalidQuery.

    in_path: fields that the path holds.
    """
    given: dict[str, Any] = dict(in_path)
    names = [field.alias or name for name, field in model.model_fields.items()]
    if request.scope["query_string"]:
        for name, text in request.query_params.multi_items():
            if name in in_path:
                raise InvalidQuery(name, f"the {name} stands in the path")
            if name not in names:
                known = [each for each in names if each not in in_path]
                raise InvalidQuery(name, f"no such parameter; there are {', '.join(known) or 'none'}")
            if name in given:
                raise InvalidQuery(name, "given twice")
            given[name] = _decode(model.text_fields().get(name), text)
    return parse(model, given)


def media_type(request: Request) -> str:
    """The type of its body, without parameters, in small letters."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def from_body(model: type[M], request: Request) -> M:
    """The request in a body. Raises InvalidBody and InvalidQuery."""
    body = await request.body()
    if not body:
        raise InvalidQuery("body", "Field required")
    kind = media_type(request)
    if not kind.startswith("application/") or not kind.endswith(("/json", "+json")):
        raise InvalidQuery("body", "send it with content-type: application/json")
    try:
        # Not orjson, to which an integer of 20 digits is a float and half a surrogate pair is no JSON.
        values = json.loads(body)
    except json.JSONDecodeError as error:
        raise InvalidBody(f"the body is not JSON: {error.msg} at byte {error.pos}") from error
    except UnicodeDecodeError as error:
        raise InvalidBody(f"the body is not JSON: not UTF-8 at byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidBody(
            "the body is not JSON that can be read: it is nested too deeply, or a number too long"
        ) from error
    return parse(model, values)


def _decode(beginnings: str | None, text: str) -> Any:
    """A parameter's value; beginnings: as `Model.text_fields` tells, None: JSON."""
    if beginnings is not None and text[:1] not in tuple(beginnings):
        return text
    try:
        return orjson.loads(text.lower() if text in ("True", "False") else text)
    except orjson.JSONDecodeError:
        return text  # what is wrong with it will be told
