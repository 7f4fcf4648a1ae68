"""Items by their titles."""

from __future__ import annotations

import numpy as np
import orjson

from simshard.serve.engine.table import Table
from simshard.shards.query import Selection


def find_items(table: Table, text: str, limit: int, selection: Selection | None) -> bytes:
    """The body of GET /v1/items: the item that has the text as its id, then titles, best first; all items for no text.

    selection: the items that can be found. Reads mapped pages, so it can block for a moment.
    """
    text = text.strip()
    among = None if selection is None else selection.mask
    if text and table.titles is not None:
        found = table.titles.search(text, limit, table.items.row(text), among)
        rows, total = found.rows, found.total
    else:
        there = np.arange(len(table.items)) if among is None else np.flatnonzero(among)
        if text:
            there = there[there == table.items.row(text)]
        rows, total = there[:limit].astype(np.uint32), len(there)
    items = [
        {"id": table.items.id(row), "title": table.items.title(row), "payload": orjson.Fragment(bytes(payload))}
        for row, payload in zip(rows.tolist(), table.items.payload_texts(rows.tolist()), strict=True)
    ]
    return orjson.dumps({"snapshot": table.name, "items": items, "total": total})
