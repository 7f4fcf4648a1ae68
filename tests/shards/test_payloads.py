"""payloads.arrow: what an answer takes out of it is what the columns hold."""

import orjson
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simshard.shards import payloads
from simshard.shards.errors import CorruptFile
from simshard.shards.items import Items, write_items
from simshard.shards.payloads import Payloads, write_payloads
from tests.support.catalogue import columns_of, items_of

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ITEM = st.fixed_dictionaries(
    {
        "title": st.none() | TEXT,
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(),
        "tags": st.none() | st.lists(st.none() | TEXT, max_size=3),
    }
)
KINDS = {"title": pa.string(), "n": pa.int64(), "x": pa.float64(), "tags": pa.list_(pa.string())}


@settings(max_examples=60, deadline=None)
@given(st.lists(ITEM, min_size=1, max_size=12), st.integers(1, 5), st.data())
def test_payloads_are_those_of_the_columns(tmp_path_factory, items, batch, data):
    folder = tmp_path_factory.mktemp("payloads")
    columns = {name: pa.array([item[name] for item in items], kind) for name, kind in KINDS.items()}
    write_items(folder, pa.array(range(len(items))), columns)
    rows = data.draw(st.lists(st.integers(0, len(items) - 1)))
    plain = Items(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(payloads, "_BATCH_ROWS", batch)
        write_payloads(folder, columns)
        found = Payloads(folder).of(rows)
    assert found == [orjson.dumps(plain.payload(row)) for row in rows]


def test_batches_end_where_they_should(tmp_path):
    count = 2 * payloads._BATCH_ROWS + 1
    columns = columns_of(items_of(count))
    write_payloads(tmp_path, columns)
    rows = [0, payloads._BATCH_ROWS - 1, payloads._BATCH_ROWS, count - 1]
    titles = [payload["title"] for payload in map(orjson.loads, Payloads(tmp_path).of(rows))]
    assert titles == [f"Title {row}" for row in rows]


def test_no_attributes_no_file(tmp_path):
    assert write_payloads(tmp_path, {}) is None
    assert list(tmp_path.iterdir()) == []


def test_another_file_is_refused(tmp_path):
    path = tmp_path / "payloads.arrow"
    with pytest.raises(CorruptFile, match=r"payloads\.arrow"):
        Payloads(tmp_path)
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(CorruptFile, match=r"payloads\.arrow"):
        Payloads(tmp_path)
    schema = pa.schema({"payload": pa.large_binary()})
    with pa.ipc.new_file(path, schema) as writer:
        for rows in (2, 3):
            writer.write_batch(pa.record_batch([pa.array([b"{}"] * rows, pa.large_binary())], schema=schema))
    with pytest.raises(CorruptFile, match="in batches of"):
        Payloads(tmp_path)
