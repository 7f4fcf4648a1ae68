"""`simshard compute`."""

from __future__ import annotations

import os
from typing import Annotated, Literal

import typer

from simshard.cli.ingest import StoreOption
from simshard.cli.output import reported_errors, run_build, size_option

FEATURE = "COLUMN:KIND[:OPTION]=WEIGHT"


def compute(
    items: Annotated[str, typer.Argument(help="Catalogue: JSON, NDJSON, CSV, TSV or Parquet.")],
    store: StoreOption,
    path: Annotated[str | None, typer.Option(help="Where the items stand in a JSON document, dotted.")] = None,
    id: Annotated[str | None, typer.Option(help="Column of the ids (default: id).")] = None,
    title: Annotated[str | None, typer.Option(help="Column of the titles (default: title or name).")] = None,
    feature: Annotated[
        list[str] | None,
        typer.Option(
            help="What items are compared by (repeatable). KIND: set (options cosine, jaccard, idf), number, category, "
            "vector (a column of lists, or COLUMN.npy beside the catalogue). Default, where they exist: tags:set=0.6, "
            "rating:number or score:number=0.2, year:number=0.15, type:category=0.05.",
            metavar=FEATURE,
        ),
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="The same, as an array of tables named feature.", metavar="FILE.toml")
    ] = None,
    split: Annotated[
        list[str] | None,
        typer.Option(help="Text column that holds lists, and what parts them (repeatable).", metavar="COLUMN=SEP"),
    ] = None,
    top: Annotated[int | None, typer.Option(min=1, help="Keep the best so many of each item (default: all).")] = None,
    score_threshold: Annotated[float | None, typer.Option(help="Keep scores from this on (default: all).")] = None,
    shards: Annotated[int, typer.Option(min=1, max=99_999, help="Number of shards, a task each.")] = 2,
    encoding: Annotated[
        Literal["auto", "dense", "sparse"], typer.Option(help="auto: dense where half of all pairs are kept.")
    ] = "auto",
    memory: Annotated[str, typer.Option(help="Working memory of all tasks together.")] = "512MB",
    workers: Annotated[int | None, typer.Option(min=1, help="Cores to use (default: all).")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to run the work on, as tasks.")] = None,
    no_activate: Annotated[bool, typer.Option("--no-activate", help="Publish, but do not switch to it.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the manifest.")] = False,
) -> None:
    """Build a snapshot by scoring every pair of a catalogue's items."""
    from simshard.ingest.build_catalogue import ComputeOptions
    from simshard.ingest.build_catalogue import compute as build
    from simshard.ingest.features import parse_feature, read_features
    from simshard.shards.errors import InputError

    if score_threshold is not None and not abs(score_threshold) < float("inf"):
        raise typer.BadParameter("a number is needed", param_hint="--score-threshold")
    try:
        specs = [parse_feature(text) for text in feature or []]
    except InputError as error:
        raise typer.BadParameter(str(error), param_hint="--feature") from error
    separators = dict(_separator(text) for text in split or [])
    with reported_errors():
        listed, text = read_features(features) if features else ([], None)
        options = ComputeOptions(
            id_column=id,
            title_column=title,
            inside=path,
            separators=separators,
            features=(*listed, *specs),
            features_toml=text,
            top=top,
            score_threshold=score_threshold,
            shards=shards,
            encoding=None if encoding == "auto" else encoding,
            memory=size_option(memory),
            workers=workers,
            activate=not no_activate,
        )
        if address is not None:  # tasks have working folders of their own
            items = os.path.abspath(items)
        run_build(
            store,
            lambda opened, progress: build(items, opened, options, progress),
            address,
            json,
            activated=not no_activate,
            inputs=[items],
        )


def _separator(text: str) -> tuple[str, str]:
    column, _, separator = text.rpartition("=")
    if not column or not separator:
        raise typer.BadParameter(f"{text!r} is not COLUMN=SEP", param_hint="--split")
    return column, separator
