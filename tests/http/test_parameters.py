"""A new parameter, of a path or of a query string, is described and read without a word more."""

from enum import StrEnum
from typing import Annotated

import pytest
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from simshard.serve.client.flows import _texts
from simshard.serve.http.openapi import Operation, document
from simshard.serve.http.parameters import from_query
from simshard.serve.schema.requests import (
    BulkOptions,
    Fallback,
    FindRequest,
    HitArguments,
    RankArguments,
    RankRequest,
    RecommendArguments,
    RecommendRequest,
    SimilarRequest,
)
from simshard.serve.schema.values import Model, Text
from simshard.shards.errors import InvalidQuery


class Mode(StrEnum):
    """Text that looks like something else."""

    YES = "true"
    ONE = "1"


class Trial(Model):
    """The parameters of an operation that there is not."""

    shelf: Annotated[Text, Field(description="A shelf.")]
    label: Text | None = None
    count: int = 1
    either: Text | Fallback | None = None
    tags: list[Text] = []  # noqa: RUF012 - pydantic copies what is the default
    mode: Mode | None = None
    words: list[Text] | Text = ""
    other: Annotated[Text, Field(alias="as")] = ""


async def answer(_):
    return Response("")


def request(**parameters):
    query = "&".join(f"{name}={value}" for name, value in parameters.items())
    return Request({"type": "http", "headers": [], "query_string": query.encode()})


def test_a_new_parameter_of_a_path_is_described():
    operation = Operation("GET", "/v1/{room}/{shelf:path}", answer, "Trial", "queries", query=Trial)
    found = document([operation], "t", "1", "d")["paths"]["/v1/{room}/{shelf}"]["get"]["parameters"]
    assert found[:2] == [
        {"name": "room", "in": "path", "required": True, "schema": {"type": "string"}},
        {"name": "shelf", "in": "path", "required": True, "schema": {"type": "string"}, "description": "A shelf."},
    ]
    assert [each["name"] for each in found[2:]] == ["label", "count", "either", "tags", "mode", "words", "as"]


@pytest.mark.parametrize("text", ["123", "true", "null", '"x"', "[1]", "a b", "nan"])
def test_text_is_read_as_text_whatever_it_looks_like(text):
    found = from_query(Trial, request(label=text), shelf=text)
    assert (found.label, found.shelf) == (text, text)
    assert _texts(Trial, {"label": text, "shelf": text}) == {"label": text, "shelf": text}


def test_names_of_text_lists_or_text_and_other_names():
    assert from_query(Trial, request(mode="true"), shelf="x").mode is Mode.YES
    assert from_query(Trial, request(mode="1"), shelf="x").mode is Mode.ONE
    assert from_query(Trial, request(words='["a","b"]'), shelf="x").words == ["a", "b"]
    assert from_query(Trial, request(words="a,b"), shelf="x").words == "a,b"
    assert from_query(Trial, request(**{"as": "1"}), shelf="x").other == "1"
    with pytest.raises(InvalidQuery, match=r"other: no such parameter; there are label, .*, as$"):
        from_query(Trial, request(other="1"), shelf="x")


def test_all_else_is_json():
    found = from_query(Trial, request(count="3", either='{"order_by": "year"}', tags='["1", "b"]'), shelf="x")
    assert (found.count, found.either, found.tags) == (3, Fallback(order_by="year"), ["1", "b"])
    assert from_query(Trial, request(either="name"), shelf="x").either == "name"
    assert from_query(Trial, request(either='"name"'), shelf="x").either == "name"
    with pytest.raises(InvalidQuery, match="count"):
        from_query(Trial, request(count="x"), shelf="x")
    given = {"count": 3, "either": "name", "tags": ["1"], "label": None}
    assert _texts(Trial, given) == {"count": "3", "either": '"name"', "tags": '["1"]', "label": None}


def test_the_models_that_there_are_take_text_where_they_say():
    texts = SimilarRequest.text_fields()
    assert texts == {"id": "", "group_by": "", "snapshot": "", "filter": '"{'}
    assert FindRequest.text_fields() == {"q": ""}
    assert BulkOptions.text_fields() == {"filter": '"{', "snapshot": ""}


@pytest.mark.parametrize(
    ("model", "arguments", "first"),
    [
        (SimilarRequest, HitArguments, {"id"}),
        (RecommendRequest, RecommendArguments, {"positive"}),
        (RankRequest, RankArguments, {"positive", "candidates"}),
    ],
)
def test_the_python_client_takes_what_requests_take(model, arguments, first):
    assert set(arguments.__annotations__) | first == set(model.model_fields)
