"""Items by their titles."""

from __future__ import annotations

import orjson

from simshard.serve.router import Table


def find_items(table: Table, text: str, limit: int) -> bytes:
    """The body of GET /v1/items: the item that has the text as its id, then titles, best first; all items for no text.

    Reads mapped pages, so it can block for a moment.
    """
    text = text.strip()
    exact = table.items.row(text)
    if not text:
        rows, total = list(range(min(limit, len(table.items)))), len(table.items)
    elif table.titles is not None:
        found = table.titles.search(text, limit, exact)
        rows, total = found.rows.tolist(), found.total
    else:
        rows = [] if exact is None else [exact]
        total = len(rows)
    items = []
    for row in rows:
        payload = table.items.payload(row)
        items.append({"id": table.items.id(row), "title": payload.get("title"), "payload": payload})
    return orjson.dumps({"snapshot": table.name, "items": items, "total": total})
