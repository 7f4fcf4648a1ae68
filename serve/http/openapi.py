"""Calls of the API, and the OpenAPI document that says what they take and answer."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import Response

from simshard.serve.http.access import Access, GuardedRoute
from simshard.serve.schema.problems import Problem
from simshard.serve.schema.values import Model

JSON = "application/json"
_REF = "#/components/schemas/{model}"
_PROBLEMS = (400, 401, 404, 409, 413, 422, 503, 504)
_ABOUT = {"name": "A snapshot's name.", "id": "The item's id as text."}  # what some parameters of paths are
_IN_PATH = re.compile(r"\{(\w+)(?::\w+)?\}")


@dataclass(frozen=True)
class Operation:
    """One call: `answer` gives the response to a request, the rest is what the document says of it.

    path: as Starlette has it. query, body: what is read from there. array: the media type of a body that is an array,
    to which the query belongs. response: what a 200 of media type `media` holds.
    conditional: whether If-None-Match is heeded. access: who may call it.
    """

    method: str
    path: str
    answer: Callable[[Request], Awaitable[Response]]
    summary: str
    tag: str
    query: type[Model] = Model
    body: type[Model] | None = None
    array: str = ""
    response: type[BaseModel] | None = None
    media: str = JSON
    conditional: bool = False
    access: Access = "key"

    @property
    def route(self) -> GuardedRoute:
        """The route that leads to the answer."""
        return GuardedRoute(self.path, self.answer, self.access, [self.method])


def document(operations: Sequence[Operation], title: str, version: str, description: str) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    models: set[type[BaseModel]] = {Problem}
    for operation in operations:
        models.update(each for each in (operation.body, operation.query, operation.response) if each)
    ordered = sorted(models, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(_IN_PATH.sub(r"{\1}", operation.path), {})[operation.method.lower()] = _described(operation)
    named = {name: each for name, each in schemas["$defs"].items() if name not in _queries(operations)}
    info = {"title": title, "version": version, "description": description}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": named}}


def _queries(operations: Sequence[Operation]) -> set[str]:
    """Names of models that are query strings, whose fields stand as parameters."""
    return {operation.query.__name__ for operation in operations}


def _described(operation: Operation) -> dict[str, Any]:
    of_query = {each["name"]: each for each in _parameters(operation.query)}
    in_path = [_path_parameter(name, of_query.pop(name, {})) for name in _IN_PATH.findall(operation.path)]
    found: dict[str, Any] = {
        "tags": [operation.tag],
        "summary": operation.summary,
        "operationId": operation.answer.__name__,
        "parameters": [*in_path, *of_query.values()],
        "responses": _responses(operation),
    }
    if operation.body is not None:
        content = {JSON: {"schema": {"$ref": _REF.format(model=operation.body.__name__)}}}
        content |= {operation.array: {}} if operation.array else {}
        found["requestBody"] = {"content": content, "required": True}
    return found


def _path_parameter(name: str, of_query: Mapping[str, Any]) -> dict[str, Any]:
    """A parameter of the path, with what the model says of it that checks it, if there is one."""
    about = {"description": of_query.get("description", _ABOUT.get(name))}
    found = {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
    return found | {key: value for key, value in about.items() if value}


def _responses(operation: Operation) -> dict[str, Any]:
    model = operation.response
    schema = {"schema": {"$ref": _REF.format(model=model.__name__)}} if model else {}
    problem = {"application/problem+json": {"schema": {"$ref": _REF.format(model=Problem.__name__)}}}
    statuses = sorted({*_PROBLEMS, *((403,) if operation.access == "admin" else ())})
    found: dict[str, Any] = {"200": {"description": "The answer", "content": {operation.media: schema}}}
    if operation.conditional:
        found["304"] = {"description": "What If-None-Match names is still the answer"}
    return found | {str(status): {"description": HTTPStatus(status).phrase, "content": problem} for status in statuses}


def _parameters(model: type[Model]) -> list[dict[str, Any]]:
    """A model's fields as query parameters; objects and lists are JSON."""
    schema = model.model_json_schema(ref_template=_REF)
    parameters = []
    for name, whole in schema.get("properties", {}).items():
        kinds = [kind for kind in whole.get("anyOf", ()) if kind != {"type": "null"}]
        about = {
            key: value for key, value in whole.items() if key != "anyOf" and not (key == "default" and value is None)
        }
        about |= kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {}
        parameter = {"name": name, "in": "query", "required": name in schema.get("required", ())}
        if "description" in about:
            parameter["description"] = about.pop("description")
        nested = any("$ref" in kind or kind.get("type") == "array" for kind in (about, *kinds))
        parameters.append(parameter | ({"content": {JSON: {"schema": about}}} if nested else {"schema": about}))
    return parameters
