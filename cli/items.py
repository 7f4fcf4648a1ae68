"""`simshard items …`."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from simshard.cli.output import print_json, print_table
from simshard.cli.queries import JsonOption, LimitOption, StoreOrNone, UrlOption, answer

app = typer.Typer(no_args_is_help=True, help="Find items by title, and show them.")


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="Beginnings of words of the title, or an id.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    limit: LimitOption = 10,
    json: JsonOption = False,
) -> None:
    """Items whose titles match, best first: in any case, with or without accents."""

    async def ask(service: Any) -> bytes:
        return bytes((await service.find(text, limit)).body)

    body = answer(store, url, ask, "GET", "/v1/items", {"params": {"q": text, "limit": limit}})
    if json:
        print_json(body)
        return
    found = orjson.loads(body)
    if not found["items"]:
        typer.echo("no title matches", err=True)
        return
    print_table(["id", "title"], [[str(item["id"]), item["title"] or ""] for item in found["items"]])
    more = found["total"] - len(found["items"])
    if more:
        typer.echo(f"{more:,} more; raise --limit", err=True)


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="Id of the item.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Title and attributes of an item."""

    async def ask(service: Any) -> bytes:
        return bytes(service.item(id).body)

    body = answer(store, url, ask, "GET", f"/v1/items/{quote(id, safe='')}", {})
    if json:
        print_json(body)
        return
    item = orjson.loads(body)
    rows = [["id", str(item["id"])]]
    for name, value in item["payload"].items():
        rows.append([name, ", ".join(value) if isinstance(value, list) else str(value)])
    print_table(["", ""], rows)
