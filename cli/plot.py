"""Scores, neighbors and bytes of a snapshot as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from simshard.cli.output import fail, of_sample
from simshard.shards.statistics import count_neighbors, sample_scores
from simshard.shards.store import Snapshot

_COLOR = "#2a6f97"


def plot(snapshot: Snapshot, path: Path) -> None:
    """Draw a snapshot into a .png, .svg or .pdf file."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
        from matplotlib.ticker import EngFormatter
    except ImportError:
        fail("--plot needs matplotlib: pip install 'simshard[plot]'")
    manifest = snapshot.manifest
    figure = Figure(figsize=(15, 4.5), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(f"{manifest.name}: {manifest.items:,} items, {manifest.pairs:,} pairs, {manifest.encoding}")
    of_scores, of_neighbors, of_bytes = figure.subplots(1, 3)

    scores, step = sample_scores(snapshot)
    of_scores.hist(scores, bins=100, color=_COLOR)
    _label(of_scores, f"Scores{of_sample(step)}", "score", "stored scores")
    neighbors = np.sort(count_neighbors(snapshot))[::-1]
    of_neighbors.fill_between(np.arange(len(neighbors)), neighbors, color=_COLOR, step="mid")
    of_neighbors.set_ylim(bottom=0)
    _label(of_neighbors, "Neighbors per item", "items, most neighbors first", "neighbors")
    sizes = [shard.bytes for shard in manifest.shards]
    of_bytes.bar(np.arange(len(sizes)), sizes, color=_COLOR)
    of_bytes.set_xticks(np.arange(len(sizes))[:: -(-len(sizes) // 16)])
    of_bytes.yaxis.set_major_formatter(EngFormatter("B"))
    _label(of_bytes, "Bytes per shard", "shard", None)
    try:
        canvas.print_figure(path)
    except (OSError, ValueError) as error:
        fail(f"{path}: cannot be drawn ({error})")


def _label(axes: Any, title: str, x: str, y: str | None) -> None:
    axes.set_title(title)
    axes.set_xlabel(x)
    if y:
        axes.set_ylabel(y)
        axes.yaxis.set_major_formatter("{x:,.0f}")
