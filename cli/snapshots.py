"""`simshard snapshots …`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import orjson
import typer

from simshard.cli.ingest import StoreOption
from simshard.cli.output import copied, fail, print_json, print_table, reported_errors, show_size
from simshard.shards.bucket import is_uri

app = typer.Typer(no_args_is_help=True, help="List, show, switch, check and remove snapshots.")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
NameArgument = Annotated[str | None, typer.Argument(help="Snapshot (default: the active one).")]


@app.command("list")
def list_(store: StoreOption, json: JsonOption = False) -> None:
    """All snapshots, oldest first."""
    from simshard.serve.engine.snapshot_list import list_snapshots
    from simshard.shards.local_copies import open_store

    with reported_errors():
        body = list_snapshots(open_store(store), None)
        if json:
            print_json(body)
            return
        rows = [
            [
                "*" if row["active"] else "",
                row["name"],
                f"{row['items']:,}",
                f"{row['pairs']:,}",
                row["encoding"],
                str(row["shards"]),
                show_size(row["bytes"]),
            ]
            for row in body["snapshots"]
        ]
        print_table(["", "snapshot", "items", "pairs", "encoding", "shards", "size"], rows)


@app.command()
def show(
    store: StoreOption,
    name: NameArgument = None,
    json: JsonOption = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw scores, neighbors per item and bytes per shard.", metavar="FILE.png", dir_okay=False),
    ] = None,
) -> None:
    """What a snapshot consists of, and which items are hidden."""
    from simshard.shards.hidden import read_hidden
    from simshard.shards.local_copies import open_store

    with reported_errors():
        opened = open_store(store)
        manifest = opened.manifest(opened.resolve(name))
        hidden = read_hidden(opened)
        if plot is not None:
            from simshard.cli.plot import plot as draw
            from simshard.shards.store import Snapshot

            draw(Snapshot(copied(store, name), manifest.name), plot)
        content = orjson.loads(manifest.to_json())
        if json:
            print_json(content | {"hidden": orjson.loads(hidden.to_json())})
            return
        shards = content.pop("shards")
        print_table(
            ["", ""], [[key, value if isinstance(value, str) else str(value)] for key, value in content.items()]
        )
        columns = ["file", "row_start", "row_stop", "entries", "bytes", "checksum"]
        print_table(columns, [[str(shard[column]) for column in columns] for shard in shards])
        if hidden.items:
            print_table(["hidden", "since"], [[str(id_), since] for id_, since in hidden.items])


@app.command()
def activate(store: StoreOption, name: Annotated[str, typer.Argument(help="Snapshot.")]) -> None:
    """Make a snapshot the active one; running servers follow within 2 seconds."""
    from simshard.shards.local_copies import open_store

    with reported_errors():
        typer.echo(f"active: {open_store(store).activate(name).active}")


@app.command()
def rollback(store: StoreOption) -> None:
    """Make the snapshot that was active before the active one."""
    from simshard.shards.local_copies import open_store

    with reported_errors():
        typer.echo(f"active: {open_store(store).rollback().active}")


@app.command()
def verify(store: StoreOption, name: NameArgument = None) -> None:
    """Check every file of a snapshot against its checksum."""
    from simshard.shards.local_copies import open_store

    with reported_errors():
        opened = open_store(store)
        name = opened.resolve(name)
        faults = opened.verify(name)
    for fault in faults[:-1]:
        typer.echo(f"simshard: {fault}", err=True)
    if faults:
        fail(faults[-1])
    typer.echo(f"{name}: sound")


@app.command()
def prune(
    store: StoreOption,
    keep: Annotated[int, typer.Option(min=0, help="How many previously active snapshots to keep.")] = 1,
    older_than: Annotated[
        float | None,
        typer.Option(min=0, help="Only those so many days old (default: 7 in a bucket, else 0).", metavar="DAYS"),
    ] = None,
) -> None:
    """Remove snapshots other than the active one, the last before it, and those in use."""
    from datetime import timedelta

    from simshard.shards.local_copies import open_store

    with reported_errors():
        age = None if older_than is None else timedelta(days=older_than)
        removed, held = open_store(store).prune(keep, age)
    for name in removed:
        typer.echo(f"removed {name}")
    for name in held:
        typer.echo(f"in use or younger, left: {name}" if age or is_uri(store) else f"in use, left: {name}")
    if not removed and not held:
        typer.echo("nothing to remove")


@app.command()
def copy(
    source: Annotated[str, typer.Argument(help="Store to copy from: a path or a URI.", metavar="SRC")],
    target: Annotated[str, typer.Argument(help="Store to copy to.", metavar="DST")],
    name: NameArgument = None,
    activate: Annotated[bool, typer.Option("--activate", help="Make it the active snapshot there.")] = False,
) -> None:
    """Copy a snapshot from one store to another; one that was interrupted goes on where it was."""
    from simshard.cli.output import BuildProgress
    from simshard.shards.copies import copy_snapshot
    from simshard.shards.local_copies import open_store

    with reported_errors():
        there, here = open_store(source), open_store(target)
        with BuildProgress() as progress:
            manifest = copy_snapshot(there, there.resolve(name), here, progress)
        if activate:
            here.activate(manifest.name)
    typer.echo(f"{manifest.name}: {show_size(manifest.total_bytes)} in {target}{', active' if activate else ''}")
