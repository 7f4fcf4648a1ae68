"""The OpenAPI document against the application: no request, valid or not, finds a 500 or what is not documented."""

import random

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from simshard.serve.engine.cache import Cache, Lru
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import local_table
from simshard.serve.http.api import build_api
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store
from tests.support.catalogue import columns_of, items_of
from tests.support.tables import POOL

ITEMS = 24
ID_LISTS = {
    "positive": 0,
    "negative": 1,
    "candidates": 1,
    "exclude_ids": 0,
    "ids": 0,
}  # even or odd ones: all different
NEED_SNAPSHOTS = {"POST /v1/snapshots/rollback", "POST /v1/snapshots/{name}/activate"}  # others than there are
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def api_schema(tmp_path_factory):
    attributes = columns_of(items_of(ITEMS))
    store = write_store(tmp_path_factory.mktemp("openapi"), random_matrix(3, ITEMS), attributes=attributes)
    service = Service(Cache(Lru(1 << 20), None), POOL, filters={"clean": {"must": [{"key": "year", "is_null": False}]}})
    service.serve(local_table(Snapshot(store), POOL))

    def health():
        return {
            "status": "ok",
            "version": "0",
            "snapshot": service.table.name,
            "items": ITEMS,
            "pairs": 9,
            "shards": [],
            "cache": {},
            "hidden": 0,
            "problem": None,
        }

    return schemathesis.openapi.from_asgi("/openapi.json", build_api(service, store, None, health, "admin"))


def with_what_there_is(value, rng):
    """The same request about items, attributes and filters that there are, now and then."""
    if isinstance(value, dict):
        names = {
            "key": ["year", "rating", "type", "tags"],
            "order_by": ["year", "rating"],
            "group_by": ["type", "year"],
            "filter": [{}, "clean", {"must": [{"key": "year", "range": {"gte": 1992}}]}],
            "snapshot": [None],
        }
        chosen = {}
        for name, each in value.items():
            known = rng.random() < 0.7
            if name in names and known:
                chosen[name] = rng.choice(names[name])
            elif name in ID_LISTS and isinstance(each, list) and known:
                chosen[name] = rng.sample(range(ID_LISTS[name], ITEMS, 2), min(len(each), ITEMS // 2))
            else:
                chosen[name] = with_what_there_is(each, rng)
        return chosen
    return [with_what_there_is(each, rng) for each in value] if isinstance(value, list) else value


def aimed(case):
    """A generated request, most of them at what there is."""
    rng = random.Random(repr((case.path_parameters, case.query, case.body)))
    if isinstance(case.body, dict | list):
        case.body = with_what_there_is(case.body, rng)
    for part in (case.body, case.query):
        if isinstance(part, dict) and str(part.get("timeout_ms")).isdigit():
            part["timeout_ms"] = "5000" if part is case.query else 5000  # 504 in a millisecond would be right
    if case.path_parameters and "id" in case.path_parameters and rng.random() < 0.7:
        case.path_parameters["id"] = str(rng.randrange(ITEMS))
    for name in ("id", "a", "b"):
        if case.query and name in case.query and rng.random() < 0.7:
            case.query[name] = str(rng.randrange(ITEMS))
    if rng.random() < 0.5:
        case.headers = {**(case.headers or {}), "authorization": "Bearer admin"}
    return case


@pytest.mark.slow
@pytest.mark.parametrize("mode", list(GenerationMode))
def test_no_request_finds_a_500_or_an_answer_beside_its_schema(api_schema, mode):
    statuses = {}
    examples = 20 if mode == GenerationMode.POSITIVE else 4
    operations = [result.ok() for result in api_schema.get_all_operations()]
    assert len(operations) >= 16
    for operation in operations:
        if mode == GenerationMode.NEGATIVE and not list(operation.body) and not list(operation.query):
            continue  # nothing in it could be wrong

        @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case):
            answer = aimed(case).call()
            statuses.setdefault(case.operation.label, set()).add(answer.status_code)
            case.validate_response(answer, checks=CHECKS)

        ask()
        tries = 5 if mode == GenerationMode.POSITIVE and operation.label not in NEED_SNAPSHOTS else 1
        while tries > 1 and all(status >= 300 for status in statuses[operation.label]):
            ask()  # options that are valid one by one refuse each other: other examples
            tries -= 1
    assert len(statuses) >= (len(operations) if mode == GenerationMode.POSITIVE else 8)
    if mode == GenerationMode.POSITIVE:
        unanswered = {label for label, found in statuses.items() if all(status >= 300 for status in found)}
        assert unanswered <= NEED_SNAPSHOTS
