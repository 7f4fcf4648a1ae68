"""Query strings: what the OpenAPI document says of them, and requests out of them; objects and lists are JSON."""

from __future__ import annotations

from typing import Any

import orjson
from pydantic import BaseModel
from starlette.requests import Request

from simshard.serve.parsing import parse
from simshard.serve.requests import TEXT_PARAMETERS, SimilarRequest
from simshard.shards.errors import InvalidQuery


def described(model: type[BaseModel]) -> dict[str, Any]:
    """What the OpenAPI document says of a model whose fields are query parameters; objects and lists are JSON."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    described = []
    for name, whole in schema["properties"].items():
        kinds = [kind for kind in whole.get("anyOf", ()) if kind != {"type": "null"}]
        about = {
            key: value for key, value in whole.items() if key != "anyOf" and not (key == "default" and value is None)
        }
        about |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in about:
            parameter["description"] = about.pop("description")
        nested = any("$ref" in kind or kind.get("type") == "array" for kind in (about, *kinds))
        described.append(
            parameter | ({"content": {"application/json": {"schema": about}}} if nested else {"schema": about})
        )
    return {"parameters": described}


def similar_request(request: Request, **given: str) -> SimilarRequest:
    """The options in a query string: text for names and ids, JSON for all else. Raises InvalidQuery."""
    if "id" in given and "id" in request.query_params:
        raise InvalidQuery("id", "the id stands in the path")
    check_parameters(request, *SimilarRequest.model_fields)
    return parse(SimilarRequest, given | {name: _decode(name, text) for name, text in request.query_params.items()})


def check_parameters(request: Request, *known: str) -> None:
    """Return if the query string holds no parameter that is not known, and none twice. Raises InvalidQuery."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise InvalidQuery(name, f"no such parameter; there are {', '.join(known) or 'none'}")
        if names.count(name) > 1:
            raise InvalidQuery(name, "given twice")


def _decode(name: str, text: str) -> Any:
    if name in TEXT_PARAMETERS or (name == "filter" and text[:1] not in ("{", '"')):
        return text
    try:
        return orjson.loads(text.lower() if text in ("True", "False") else text)
    except orjson.JSONDecodeError:
        return text  # what is wrong with it will be told
