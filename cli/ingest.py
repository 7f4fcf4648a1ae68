"""`simshard ingest`."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import Annotated, Literal

import typer

from simshard.cli.output import reported_errors, run_build, size_option
from simshard.ingest.pair_formats import FORMATS

StoreOption = Annotated[
    str,
    typer.Option(
        "--store", envvar="SIMSHARD_STORE", help="The store: a folder, or s3://, gs:// or az://BUCKET/FOLDER."
    ),
]


def _known(format_: str | None) -> str | None:
    """A name of a format of pairs. Raises BadParameter."""
    if format_ is not None and format_ not in FORMATS:
        raise typer.BadParameter(f"{format_!r} is not one of {', '.join(map(repr, FORMATS))}.")
    return format_


def ingest(
    pairs: Annotated[list[str], typer.Argument(help="Pair files, or - for stdin; .gz, .bz2 and .zst are unpacked.")],
    store: StoreOption,
    format: Annotated[
        str | None,
        typer.Option(help="Instead of by file extension.", metavar=f"<{'|'.join(FORMATS)}>", callback=_known),
    ] = None,
    fields: Annotated[
        str | None, typer.Option(help="Fields or columns of a pair's ids and score.", metavar="A,B,SCORE")
    ] = None,
    items: Annotated[str | None, typer.Option(help="Catalogue: JSON, NDJSON, CSV, TSV or Parquet.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of the ids in --items (default: id).")] = None,
    title: Annotated[str | None, typer.Option(help="Column of the titles in --items (default: title or name).")] = None,
    directed: Annotated[bool, typer.Option("--directed", help="(a,b) says nothing of (b,a).")] = False,
    top: Annotated[int | None, typer.Option(min=1, help="Keep the best so many of each item (default: all).")] = None,
    shards: Annotated[int | None, typer.Option(min=1, max=99_999, help="Number of shards (default: 2).")] = None,
    starts: Annotated[
        str | None, typer.Option(help="First rows of the shards, instead of equal ones.", metavar="0,ROW,…")
    ] = None,
    batch_rows: Annotated[
        int | None,
        typer.Option(min=1, max=256, help="Rows of a record batch, a power of two, instead of what memory allows."),
    ] = None,
    encoding: Annotated[
        Literal["auto", "dense", "sparse"], typer.Option(help="auto: dense where half of all pairs exist.")
    ] = "auto",
    memory: Annotated[str, typer.Option(help="Working memory of all workers together.")] = "512MB",
    workers: Annotated[int | None, typer.Option(min=1, help="Worker processes or tasks (default: cores).")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to run the work on, as tasks.")] = None,
    no_activate: Annotated[bool, typer.Option("--no-activate", help="Publish, but do not switch to it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Build a snapshot from pair files: JSON arrays of objects or triples, NDJSON, Parquet."""
    from simshard.ingest.build_pairs import IngestOptions
    from simshard.ingest.build_pairs import ingest as build

    names = tuple(name.strip() for name in fields.split(",")) if fields else None
    if names is not None and (len(names) != 3 or not all(names)):
        raise typer.BadParameter("three field names are needed: A,B,SCORE", param_hint="--fields")
    if starts is not None and not re.fullmatch(r"0(,[1-9]\d*)*", starts):
        raise typer.BadParameter("row numbers are needed, the first of them 0: 0,ROW,…", param_hint="--starts")
    if starts is not None and shards is not None:
        raise typer.BadParameter("--starts says how many shards there are", param_hint="--shards")
    if batch_rows is not None and batch_rows & (batch_rows - 1):
        raise typer.BadParameter("a power of two is needed", param_hint="--batch-rows")
    if items is None and (id is not None or title is not None):
        raise typer.BadParameter("--id and --title name columns of --items", param_hint="--items")
    options = IngestOptions(
        format=format,
        fields=names,
        items=items,
        id_column=id,
        title_column=title,
        directed=directed,
        top=top,
        shards=shards or IngestOptions.shards,
        batch_rows=batch_rows,
        starts=tuple(map(int, starts.split(","))) if starts else None,
        encoding=None if encoding == "auto" else encoding,
        memory=size_option(memory),
        workers=workers,
        activate=not no_activate,
    )
    if address is not None:  # tasks have working folders of their own
        pairs = [path if path == "-" else os.path.abspath(path) for path in pairs]
        options = replace(options, items=os.path.abspath(items) if items else None)
    with reported_errors():
        run_build(
            store,
            lambda opened, progress: build(pairs, opened, options, progress),
            address,
            json,
            activated=not no_activate,
            inputs=[*pairs, *([items] if items else [])],
        )
