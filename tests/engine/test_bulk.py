"""The best of many items at once are those of each."""

import asyncio
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.serve.schema.requests import BulkRequest, SimilarRequest
from simshard.serve.schema.validation import parse
from simshard.shards.hidden import Hidden
from tests.support.cases import CASES
from tests.support.catalogue import FILTERS
from tests.support.worlds import answer, make_service


@settings(max_examples=80, deadline=None)
@given(data=st.data(), case=st.sampled_from(CASES), remote=st.booleans())
def test_many_at_once_are_the_answers_one_by_one(worlds, data, case, remote):
    world = worlds[case]
    count = len(world.items)
    ids = data.draw(st.lists(st.integers(0, count + 2), max_size=30))
    limit = data.draw(st.sampled_from([1, 3, 10, 40]))
    given_filter = data.draw(st.none() | FILTERS)
    service = world.services[remote, data.draw(st.booleans())]
    service.hide(Hidden(1, ((3, ""),)))
    request = parse(BulkRequest, {"ids": ids, "limit": limit, "filter": given_filter})
    name, table = asyncio.run(service.nearest(request))
    assert name == service.table.name
    assert table.schema.names == ["id", "rank", "neighbor", "score"]
    assert json.loads(table.schema.metadata[b"missing_ids"]) == [id_ for id_ in ids if id_ >= count]
    expected = []
    for id_ in ids:
        if id_ < count:
            one = {"id": str(id_), "limit": limit, "filter": given_filter, "with_payload": False}
            hits = answer(service, service.similar(parse(SimilarRequest, one)))["hits"]
            expected += [(id_, rank, hit["id"], np.float32(hit["score"])) for rank, hit in enumerate(hits, 1)]
    rows = table.to_pydict()
    found = zip(rows["id"], rows["rank"], rows["neighbor"], map(np.float32, rows["score"]), strict=True)
    assert list(found) == expected


def test_bulk_takes_little_memory_for_one_item_many_times(worlds):
    world = worlds["sparse", 3]
    count = len(world.items)
    service = make_service(world.services[False, False].table)
    service.hide(Hidden(1, ((3, ""),)))
    ids = [5] * 30_000 + list(range(count)) * 3
    _, table = asyncio.run(service.nearest(parse(BulkRequest, {"ids": ids, "limit": 2})))
    expected = answer(service, service.similar(parse(SimilarRequest, {"id": "5", "limit": 2})))["hits"]
    assert table["neighbor"].to_pylist()[: 2 * len(expected)] == [hit["id"] for hit in expected] * 2
    assert table["id"].to_pylist().count(5) == 30_003 * len(expected)
