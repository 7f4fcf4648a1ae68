"""Hidden items: the list of them in the store."""

import pyarrow as pa
import pytest

from simshard.shards import hidden
from simshard.shards.errors import StoreError, UnknownItem
from simshard.shards.hidden import Hidden, change_hidden, hide_item, read_hidden
from simshard.shards.items import Items
from tests.support.builder import write_store
from tests.support.titled_store import MATRIX, write_titled


@pytest.fixture
def store(tmp_path):
    return write_titled(tmp_path / "store")


def items_of(store):
    return Items(store.snapshots / store.resolve())


def test_the_list_is_versioned_and_survives_rebuilds(store):
    assert read_hidden(store) == Hidden()
    assert change_hidden(store, 3, True).version == 1
    assert change_hidden(store, 3, True).version == 1
    both = change_hidden(store, 7, True)
    assert (both.version, [id_ for id_, _ in both.items]) == (2, [3, 7])
    write_store(store.root, MATRIX)
    again = read_hidden(store)
    assert again == both
    assert read_hidden(store, again) is again
    back = change_hidden(store, 3, False)
    assert (back.version, [id_ for id_, _ in back.items]) == (3, [7])
    assert read_hidden(store, again) == back
    assert change_hidden(store, 7, False).items == ()


def test_the_digest_is_of_the_set_alone():
    one = Hidden(1, ((3, "a"), (7, "b")))
    assert one.digest == Hidden(9, ((7, "c"), (3, "d"))).digest != Hidden(1, ((3, "a"),)).digest
    assert Hidden(4).digest == ""
    assert Hidden(1, ((3, ""),)).digest != Hidden(1, (("3", ""),)).digest


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '{"format": 2, "version": 1, "items": []}',
        '{"format": 1, "version": 1, "items": [{"id": 1.5, "hidden": ""}]}',
    ],
)
def test_a_damaged_list_is_refused_by_name(store, content):
    (store.root / "hidden.json").write_text(content)
    with pytest.raises(StoreError, match=r"hidden\.json"):
        read_hidden(store)
    with pytest.raises(StoreError, match=r"hidden\.json"):
        change_hidden(store, 1, True)
    assert (store.root / "hidden.json").read_text() == content


def test_items_are_hidden_by_the_id_of_the_catalogue(store, monkeypatch):
    assert hide_item(store, items_of(store), "5", True)[0] == 5
    with pytest.raises(UnknownItem, match="'none'"):
        hide_item(store, items_of(store), "none", True)
    with pytest.raises(UnknownItem, match="nor is it hidden"):
        hide_item(store, items_of(store), "none", False)
    write_store(store.root, MATRIX[:5, :5])  # a build without item 5, which stays hidden for the next that has it
    assert 5 in read_hidden(store)
    assert hide_item(store, items_of(store), "5", False)[1].items == ()
    monkeypatch.setattr(hidden, "MAX_HIDDEN", 1)
    change_hidden(store, 1, True)
    with pytest.raises(StoreError, match="1 items are hidden, which is the most"):
        change_hidden(store, 2, True)


def test_where_there_is_no_store(tmp_path):
    from simshard.shards.store import Store

    with pytest.raises(StoreError, match="no store there"):
        change_hidden(Store(tmp_path / "none"), 1, True)


def test_an_item_stays_hidden_and_can_be_shown_when_a_rebuild_makes_text_of_its_id(store):
    change_hidden(store, 3, True)
    write_store(store.root, MATRIX, ids=pa.array([str(row) for row in range(20)]))
    items = items_of(store)
    assert "3" in read_hidden(store)
    assert hide_item(store, items, "3", True)[1].version == 1
    assert hide_item(store, items, "3", False)[1].items == ()
