"""What the Python client asks and how it reads the answers, without a network: generators that yield calls.

Each is sent the response to every call that it yields, and returns what it made of them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, Unpack
from urllib.parse import quote

import httpx

from simshard.serve.schema.answers import Answer, Batch, FoundItems, HiddenState, Item, Score, Snapshots
from simshard.serve.schema.problems import Problem
from simshard.serve.schema.requests import (
    MAX_BULK,
    BulkOptions,
    FilterArgument,
    HitArguments,
    RankArguments,
    RecommendArguments,
    SeedArgument,
    SimilarRequest,
)
from simshard.serve.schema.values import Id, Model
from simshard.shards.plain_values import plain_id

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_BODY = 1_000_000  # bytes; a server takes 1 MiB
_IN_QUERY = 1_000  # letters of a filter that may stand in a query string


class Call(NamedTuple):
    """One HTTP request: parameters for its query string, and a body, sent as JSON unless it is bytes of a `kind`."""

    method: str
    path: str
    params: Mapping[str, Any] | None = None
    body: Any = None
    kind: str = "application/json"


Flow = Generator[Call, httpx.Response, T]


def similar(id: Id, **options: Unpack[HitArguments]) -> Flow[Answer]:
    """Hits for one item."""
    params = {"id": str(id), **options}
    response = yield Call("GET", "/v1/similar", _texts(SimilarRequest, params))
    return Answer.model_validate_json(response.content)


def _texts(model: type[Model], params: Mapping[str, Any]) -> dict[str, str | None]:
    """Parameters as they stand in a query string that the model reads; None: one does not."""
    texts = model.text_fields()
    return {
        name: value if value is None or texts.get(name) == "" else json.dumps(value, default=list)
        for name, value in params.items()
    }


def recommend(positive: Sequence[SeedArgument], **options: Unpack[RecommendArguments]) -> Flow[Answer]:
    """Hits for many seeds: ids, or mappings of `id` and `weight`."""
    response = yield Call("POST", "/v1/recommend", body={"positive": positive, **options})
    return Answer.model_validate_json(response.content)


def recommend_batch(requests: Sequence[Mapping[str, Any]]) -> Flow[list[Answer | Problem]]:
    """An answer, or a problem in its place, for each request of up to 1,000."""
    response = yield Call("POST", "/v1/recommend/batch", body={"requests": requests})
    return Batch.model_validate_json(response.content).responses


def rank(positive: Sequence[SeedArgument], candidates: Sequence[Id], **options: Unpack[RankArguments]) -> Flow[Answer]:
    """The candidates in order for the seeds."""
    response = yield Call("POST", "/v1/rank", body={"positive": positive, "candidates": candidates, **options})
    return Answer.model_validate_json(response.content)


def score(a: Id, b: Id) -> Flow[float | None]:
    """The score of one pair; None if there is none."""
    response = yield Call("GET", "/v1/score", {"a": str(a), "b": str(b)})
    return Score.model_validate_json(response.content).score


def items(text: str = "", limit: int = 10) -> Flow[FoundItems]:
    """Items whose titles have words that begin so, best first."""
    response = yield Call("GET", "/v1/items", {"q": text, "limit": limit})
    return FoundItems.model_validate_json(response.content)


def item(id: Id) -> Flow[Item]:
    """One item."""
    response = yield Call("GET", f"/v1/items/{quote(str(id), safe='')}")
    return Item.model_validate_json(response.content)


def hide(id: Id) -> Flow[HiddenState]:
    """Keep an item out of every answer from now on; needs the admin key."""
    response = yield Call("PUT", f"/v1/items/{quote(str(id), safe='')}/hidden")
    return HiddenState.model_validate_json(response.content)


def unhide(id: Id) -> Flow[HiddenState]:
    """Show a hidden item again; needs the admin key."""
    response = yield Call("DELETE", f"/v1/items/{quote(str(id), safe='')}/hidden")
    return HiddenState.model_validate_json(response.content)


def snapshots() -> Flow[Snapshots]:
    """What the store holds and what is served."""
    response = yield Call("GET", "/v1/snapshots")
    return Snapshots.model_validate_json(response.content)


def raw(call: Call) -> Flow[bytes]:
    """The body of an answer as it came."""
    response = yield call
    return response.content


def similar_many(
    ids: Iterable[Id] | Any, limit: int = 10, *, filter: FilterArgument | None = None, snapshot: str | None = None
) -> Flow[pa.Table]:
    """Hits for many items at once: a pyarrow table of id, rank (from 1), neighbor, score, in the order of `ids`.

    ids: a list, a numpy array, or an Arrow array, of any length. Those that are unknown have no rows and are named in
    the metadata of the schema, `missing_ids` (JSON), beside the one `snapshot` that all rows are of.
    """
    import pyarrow as pa

    array = _integers(ids) if len(json.dumps(filter)) <= _IN_QUERY else None
    given = array if array is not None else getattr(ids, "to_pylist", getattr(ids, "tolist", lambda: list(ids)))()
    size = max(MAX_BULK // limit, 1) if limit > 0 else 1
    if array is not None:
        size = min(size, _BODY // array.itemsize)
    tables: list[pa.Table] = []
    missing: list[Id] = []
    start = 0
    while start < len(given) or not tables:
        part = given[start : start + size]
        options = {"limit": limit, "lists": True, "filter": filter, "snapshot": snapshot}
        if array is not None:
            call = Call("POST", "/v1/similar/bulk", _texts(BulkOptions, options), _npy(part), "application/x-npy")
        else:
            call = Call("POST", "/v1/similar/bulk", body=_encoded({"ids": part, **options}))
            if len(part) > 1 and len(call.body) > _BODY:
                size //= 2
                continue
        response = yield call
        lists = pa.ipc.open_stream(response.content).read_all()
        tables.append(_flat(lists))
        if lists["neighbors"].null_count:
            missing += [part[place] for place in lists["neighbors"].is_null().to_numpy().nonzero()[0]]
        snapshot = response.headers["x-snapshot"]
        start += size
    told = json.dumps([plain_id(each if isinstance(each, str) else int(each)) for each in missing])
    return pa.concat_tables(tables).replace_schema_metadata({"snapshot": snapshot, "missing_ids": told})


def _integers(ids: Any) -> Any:
    """Ids in a numpy or Arrow array of integers as int64; None for all else."""
    import numpy as np
    import pyarrow as pa

    if isinstance(ids, pa.Array | pa.ChunkedArray):
        if not pa.types.is_integer(ids.type) or ids.null_count:
            return None
        ids = ids.to_numpy()
    if not isinstance(ids, np.ndarray) or ids.ndim != 1 or ids.dtype.kind not in "iu" or ids.dtype == np.uint64:
        return None
    return ids.astype(np.int64, copy=False)


def _npy(array: Any) -> bytes:
    import numpy as np

    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def _flat(lists: pa.Table) -> pa.Table:
    """One row a hit, of one row an id with lists of neighbors and scores."""
    import numpy as np
    import pyarrow as pa

    batch = lists.combine_chunks()
    neighbors, scores = (batch[name].combine_chunks() for name in ("neighbors", "scores"))
    offsets = neighbors.offsets.to_numpy()
    counts = np.diff(offsets)
    places = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    ranks = np.arange(1, len(places) + 1, dtype=np.int32) - offsets[places]
    columns = {
        "id": batch["id"].combine_chunks().take(pa.array(places)),
        "rank": ranks,
        "neighbor": neighbors.flatten(),
        "score": scores.flatten(),
    }
    return pa.table(columns)


def _encoded(body: Any) -> bytes:
    return json.dumps(body, default=list, separators=(",", ":")).encode()


def request_of(call: Call) -> dict[str, Any]:
    """What httpx is to send for a call."""
    params = None if call.params is None else {k: v for k, v in call.params.items() if v is not None}
    request: dict[str, Any] = {"method": call.method, "url": call.path.lstrip("/"), "params": params}
    if call.body is not None:
        request["content"] = call.body if isinstance(call.body, bytes) else _encoded(call.body)
        request["headers"] = {"content-type": call.kind}
    return request
