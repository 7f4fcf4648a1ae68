"""The `simshard` command."""

from __future__ import annotations

import io
import sys
from importlib.metadata import version
from typing import Annotated

import typer

from simshard.cli import cluster, compute, demo, env, export, ingest, items, queries, serve, snapshots

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Serve precomputed item-to-item similarity: exact answers in milliseconds from memory-mapped shards.",
)
app.command()(ingest.ingest)
app.command()(compute.compute)
app.command()(export.export)
app.command()(serve.serve)
app.command()(queries.similar)
app.command()(queries.recommend)
app.add_typer(items.app, name="items")
app.add_typer(snapshots.app, name="snapshots")
app.command()(demo.demo)
app.command()(env.env)
app.add_typer(cluster.app, name="cluster")


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"simshard {version('simshard')}")
        raise typer.Exit


@app.callback()
def _main(
    _: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # titles and ids have letters that a terminal's encoding may lack
            stream.reconfigure(errors="backslashreplace")
    app()
