"""`simshard export`."""

from __future__ import annotations

import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import typer
from numpy.typing import NDArray

from simshard.cli.ingest import StoreOption
from simshard.cli.output import BuildProgress, copied, print_json, reported_errors, show_size

if TYPE_CHECKING:
    from simshard.shards.export_files import Exported
    from simshard.shards.manifest import Manifest


def export(
    store: StoreOption,
    to: Annotated[
        Path,
        typer.Option(
            help="File of the pairs: .parquet, .ndjson or .json; the latter two also with .gz, .bz2 or .zst.",
            metavar="FILE",
        ),
    ],
    top: Annotated[int | None, typer.Option(min=1, help="Only the best so many of each item (default: all).")] = None,
    items_to: Annotated[
        Path | None,
        typer.Option(help="File of the items with their attributes, in one of these formats.", metavar="FILE"),
    ] = None,
    snapshot: Annotated[str | None, typer.Option(help="Snapshot (default: the active one).", metavar="NAME")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write the pairs of a snapshot for other systems, all or the best of every item."""
    from simshard.shards.export_files import export as write
    from simshard.shards.items import Items
    from simshard.shards.store import Snapshot

    started = time.monotonic()
    with reported_errors():
        held = Snapshot(copied(store, snapshot), snapshot)
    with reported_errors(), BuildProgress() as progress:
        exported = write(held, to, progress, top, items_to)
        items = Items(held.folder)
    held.close()
    seconds = time.monotonic() - started
    command = shlex.join(_command(held.manifest, exported, to, items_to))
    if json:
        print_json(
            {
                "snapshot": held.name,
                "file": str(to),
                "pairs": exported.pairs,
                "bytes": exported.bytes,
                "items_file": str(items_to) if items_to else None,
                "items_bytes": exported.items_bytes if items_to else None,
                "seconds": round(seconds, 3),
                "ingest": command,
            }
        )
    else:
        typer.echo(f"{to}: {exported.pairs:,} pairs, {show_size(exported.bytes)}, {seconds:.1f} s")
        if items_to:
            typer.echo(f"{items_to}: {len(items):,} items, {show_size(exported.items_bytes)}")
    typer.echo(f"read it back with: {command}", err=True)
    if items_to is None and (items.columns or not _is_told_by_pairs(items.ids, exported.a + exported.b)):
        typer.echo("for an equal snapshot --items is needed as well: write it with --items-to", err=True)


def _is_told_by_pairs(ids: pa.Array, pairs: NDArray[np.int64]) -> bool:
    """Whether a build from the pairs alone finds all ids, in this order."""
    return bool(pairs.all()) and pc.all(pc.less(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py() is not False


def _command(manifest: Manifest, exported: Exported, to: Path, items_to: Path | None) -> list[str]:
    """The command that makes an equal snapshot of the export, with the same shards and batches of as many rows.

    Where rows were cut: the snapshot that `ingest --top` makes of all pairs.
    """
    from simshard.ingest.build_pairs import IngestOptions, plan_rows
    from simshard.ingest.tasks import cores

    stored = exported.a + exported.b if exported.once else exported.a
    whole = int(stored.sum()) == sum(shard.entries for shard in manifest.shards)
    target = plan_rows(stored, IngestOptions(shards=len(manifest.shards)), cores()[0])
    encoding, batch_rows = (manifest.encoding, manifest.batch_rows) if whole else (target.encoding, target.batch_rows)
    starts = [shard.row_start for shard in manifest.shards] if whole else target.shard_bounds[:-1].tolist()
    limit: int | None = int(stored.max())  # rows with fewer were not cut
    if manifest.directed or exported.once or limit == manifest.items - 1:
        limit = None
    command = ["simshard", "ingest", str(to), "--store", "STORE"]
    if items_to is not None:
        command += ["--items", str(items_to)]
    if manifest.directed:
        command.append("--directed")
    if limit is not None:
        command += ["--top", str(limit)]
    command += ["--starts", ",".join(map(str, starts)), "--batch-rows", str(batch_rows), "--encoding", encoding]
    return command
