"""`simshard items …`."""

from __future__ import annotations

import os
from typing import Annotated, Any

import orjson
import typer

from simshard.cli.output import copied, print_json, print_table, reported_errors
from simshard.cli.queries import JsonOption, LimitOption, StoreOrNone, UrlOption, answer, ask_server, check_source
from simshard.shards.plain_values import plain_id

app = typer.Typer(no_args_is_help=True, help="Find items by title, show them, and keep them out of answers.")


@app.command()
def search(
    text: Annotated[str, typer.Argument(help="Beginnings of words of the title, or an id.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    limit: LimitOption = 10,
    json: JsonOption = False,
) -> None:
    """Items whose titles match, best first: in any case, with or without accents."""

    def call() -> Any:
        from simshard.serve.client import flows

        return next(flows.items(text, limit))

    body = answer(store, url, lambda service: service.find(text, limit), call)
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

    def call() -> Any:
        from simshard.serve.client import flows

        return next(flows.item(id))

    body = answer(store, url, lambda service: service.item(id), call)
    if json:
        print_json(body)
        return
    item = orjson.loads(body)
    rows = [["id", str(item["id"])]] + [["hidden", "yes"]] * item["hidden"]
    for name, value in item["payload"].items():
        rows.append([name, ", ".join(value) if isinstance(value, list) else str(value)])
    print_table(["", ""], rows)


@app.command()
def hide(
    id: Annotated[str, typer.Argument(help="Id of the item.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Keep an item out of every answer: of running servers within 2 seconds, and of every build to come.

    A server (--url) wants its SIMSHARD_ADMIN_KEY.
    """
    _set_hidden(id, store, url, json, True)


@app.command()
def unhide(
    id: Annotated[str, typer.Argument(help="Id of the item.")],
    store: StoreOrNone = None,
    url: UrlOption = None,
    json: JsonOption = False,
) -> None:
    """Show a hidden item again."""
    _set_hidden(id, store, url, json, False)


def _set_hidden(id_: str, store: str | None, url: str | None, json: bool, hide: bool) -> None:
    check_source(store, url)
    body = _hide_in_store(id_, str(store), hide) if url is None else _hide_by_server(id_, url, hide)
    if json:
        print_json(body)
    else:
        typer.echo(f"{body['id']}: {'hidden' if hide else 'shown'} (version {body['version']} of the list)")


def _hide_by_server(id_: str, url: str, hide: bool) -> Any:
    from simshard.serve.client import flows
    from simshard.serve.schema.keys import ADMIN_KEY_VARIABLE

    make = flows.hide if hide else flows.unhide
    return orjson.loads(ask_server(url, lambda: next(make(id_)), os.environ.get(ADMIN_KEY_VARIABLE)))


def _hide_in_store(id_: str, path: str, hide: bool) -> dict[str, Any]:
    from simshard.shards.hidden import hide_item
    from simshard.shards.items import Items
    from simshard.shards.local_copies import open_store
    from simshard.shards.store import Snapshot

    with reported_errors():
        found, hidden = hide_item(open_store(path), Items(Snapshot(copied(path, None)).folder), id_, hide)
    return {"id": plain_id(found), "hidden": hide, "version": hidden.version}
