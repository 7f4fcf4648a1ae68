"""What commands print: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from simshard.shards.bucket import is_uri
from simshard.shards.bucket_store import BucketStore
from simshard.shards.errors import SimshardError
from simshard.shards.manifest import Manifest
from simshard.shards.statistics import sample_scores
from simshard.shards.store import Snapshot, Store

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_QUIET_INTERVAL = 5.0
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # of titles and ids, which must not steer a terminal
_REASONS = {
    "self_pairs": "self-pairs",
    "no_shared_feature": "pairs without a shared feature",
    "beyond_top_or_threshold": "pairs beyond top or threshold",
}
_QUANTILES = {"least": 0.0, "quarter": 0.25, "median": 0.5, "three quarters": 0.75, "99 %": 0.99, "best": 1.0}


@contextmanager
def reported_errors() -> Iterator[None]:
    """Turn an error of ours into one sentence on stderr and exit code 1."""
    try:
        yield
    except SimshardError as error:
        fail(str(error))


def fail(message: str, code: int = 1) -> None:
    """Print one sentence on stderr and exit."""
    typer.echo(f"simshard: {message}", err=True)
    raise typer.Exit(code)


def size_option(text: str) -> int:
    """Bytes of a text such as 512MB. Raises BadParameter."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if not found:
        raise typer.BadParameter(f"{text!r} is not a size such as 512MB or 2GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def show_size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TB"


def print_json(body: Any) -> None:
    """JSON on stdout, as the HTTP call would answer it."""
    if not isinstance(body, bytes):
        body = orjson.dumps(body)
    sys.stdout.buffer.write(body + b"\n")


def run_build(
    store: str,
    build: Callable[[Store, BuildProgress], Manifest],
    address: str | None = None,
    json: bool = False,
    activated: bool = True,
    inputs: Iterable[str] = (),
) -> None:
    """Run a build with its progress, on the Ray cluster at `address` if there is one; print what it made.

    store: a path or a URI; what is built for a URI lies in a folder of this machine until it is copied there.
    inputs: files that the build reads, which a cluster's nodes must all see.
    """
    from simshard.shards.copies import send

    started = time.monotonic()
    if address is not None:
        from simshard.shards.ray_cluster import join
        from simshard.shards.ray_nodes import check_build

        if is_uri(store):
            raise SimshardError(
                f"{store}: tasks of a cluster write into a folder that all nodes share; build there, and copy the "
                "snapshot with `simshard snapshots copy`"
            )
        join(address)
        check_build(Path(store).absolute(), [path for path in inputs if path != "-"])
    with _built_in(store) as (opened, remote):
        with BuildProgress() as progress:
            manifest = build(opened, progress)
            if remote is not None:
                send(opened, manifest.name, remote, progress)
        if remote is not None and activated:
            remote.activate(manifest.name)
        if json:
            print_json(manifest.to_json().rstrip())
        else:
            _print_build(opened, manifest, time.monotonic() - started, activated)


@contextmanager
def _built_in(store: str) -> Iterator[tuple[Store, BucketStore | None]]:
    """The store to build in; for a URI a temporary one, with names after those in the bucket, and the bucket's."""
    if not is_uri(store):
        yield Store(Path(store).absolute()), None
        return
    remote = BucketStore(store)
    remote.check_ours()
    with tempfile.TemporaryDirectory(prefix="simshard-") as folder:
        yield Store(folder, latest=max(remote.names(), default=None)), remote


def _print_build(store: Store, manifest: Manifest, seconds: float, activated: bool) -> None:
    """What a build made: the snapshot, what was left out, and how its scores are distributed."""
    scores, step = sample_scores(Snapshot(store, manifest.name))
    dropped = ", ".join(
        f"{count:,} {_REASONS.get(reason, reason.replace('_', ' '))}"
        for reason, count in manifest.dropped.items()
        if count
    )
    typer.echo(
        f"{manifest.name}: {manifest.items:,} items, {manifest.pairs:,} pairs, {manifest.encoding}, "
        f"{len(manifest.shards)} shards, {show_size(manifest.total_bytes)}, {seconds:.1f} s"
        + (f"; dropped {dropped}" if dropped else "")
        + ("" if activated else "; not activated")
    )
    for column, kind in manifest.source.get("left_out", {}).items():
        typer.echo(f"left out: column {column!r} of type {kind}, which is no attribute", err=True)
    if len(scores):
        named = zip(_QUANTILES, np.quantile(scores, list(_QUANTILES.values())), strict=True)
        typer.echo("scores: " + ", ".join(f"{name} {value:.4g}" for name, value in named) + of_sample(step))


def of_sample(step: int) -> str:
    """What is said of figures that come from every `step`-th item."""
    return f" (of one item in {step})" if step > 1 else ""


def copied(store: str, name: str | None) -> Store:
    """A store in a folder that has a snapshot (None: the active one) of the store at a path or a URI."""
    from simshard.shards.local_copies import LocalCopies, Location

    if not is_uri(store):
        return Store(store)
    copies = LocalCopies(Location(store))
    with BuildProgress() as progress:
        if name is None:
            copies.follow(progress)
        else:
            copies.bring(name, progress)
    return copies.local


def print_table(columns: list[str], rows: list[list[str]]) -> None:
    """A plain table on stdout; whole cells where stdout is no terminal."""
    console = Console(width=None if sys.stdout.isatty() else 10_000)
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=any(columns))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(Text(_CONTROL.sub(" ", cell)) for cell in row))
    with console.capture() as capture:
        console.print(table)
    typer.echo("\n".join(line.rstrip() for line in capture.get().splitlines()))


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(_rate(speed, task.fields["unit"]) if speed else "")


def _rate(speed: float, unit: str) -> str:
    return f"{show_size(speed)}/s" if unit == "B" else f"{speed:,.0f} {unit}/s"


class BuildProgress:
    """A bar with rate and remaining time on a terminal; a line now and then elsewhere."""

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = (
            Progress(TextColumn("{task.description}"), BarColumn(), _Rate(), TimeRemainingColumn(), console=console)
            if console.is_terminal
            else None
        )
        self._task: Any = None
        self._name = self._unit = ""
        self._done = 0
        self._total: int | None = None
        self._started = self._told = time.monotonic()

    def __enter__(self) -> BuildProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._fill()
            self._bar.stop()

    def _fill(self) -> None:
        """A phase whose length was not known is as long as it was."""
        if self._bar is not None and self._task is not None and self._total is None:
            self._bar.update(self._task, total=self._done)

    def phase(self, name: str, unit: str, total: int | None) -> None:
        """Begin a phase."""
        self._fill()
        self._name, self._unit, self._total, self._done = name, unit, total, 0
        self._started = time.monotonic()
        if self._bar is not None:
            self._task = self._bar.add_task(name, total=total, unit=unit)
        else:
            self._tell()

    def advance(self, units: int) -> None:
        """Report units done."""
        self._done += units
        if self._bar is not None:
            self._bar.advance(self._task, units)
        elif time.monotonic() - self._told > _QUIET_INTERVAL:
            self._tell()

    def _tell(self) -> None:
        self._told = time.monotonic()
        seconds = self._told - self._started
        line = f"{self._name}"
        if self._done:
            speed = self._done / max(seconds, 1e-9)
            line += f": {_rate(speed, self._unit)}"
            if self._total:
                left = (self._total - self._done) / speed
                line += f", {100 * self._done / self._total:.0f} %, {left:.0f} s left"
        typer.echo(line, err=True)
