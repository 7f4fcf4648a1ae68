"""The contest as pictures: throughput, and latencies at fixed rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.load import CONNECTIONS, Figures
from benchmarks.record import stated

_BLUES = ("#9ecae1", "#4292c6", "#084594")
_PERCENTILES = {"p50_ms": "p50", "p99_ms": "p99", "p99.9_ms": "p99.9"}
_LOADS = {"similar, uniform": "one item, uniform", "similar, zipf": "one item, Zipf", "20 seeds": "20 seeds"}
_OPEN = {("similar", "1000"): "one item, 1,000/s", ("20 seeds", "200"): "20 seeds, 200/s"}


def draw(told: Figures, folder: Path) -> list[Path]:
    """The files written: contest-throughput.png and contest-latency.png."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot

    figures = told["figures"]
    contenders = list(figures["contenders"].values())[::-1]  # bars are drawn from below
    named = f"{figures['items']:,} items, {figures['pairs']:,} pairs"

    def panels(count: int, title: str) -> tuple[Any, Any]:
        height = 1.6 + 0.45 * len(contenders)
        figure, axes = pyplot.subplots(1, count, figsize=(3 + 3.8 * count, height), sharey=True, squeeze=False)
        figure.suptitle(f"{title}: {named}", fontsize=11)
        for axis in axes[0]:
            axis.set_yticks(range(len(contenders)), [each["name"] for each in contenders], fontsize=8)
            axis.grid(axis="x", color="#dddddd", linewidth=0.6)
            axis.set_axisbelow(True)
            for side in ("top", "right"):
                axis.spines[side].set_visible(False)
        return figure, axes[0]

    def bars(axis: Any, values: list[list[float]], labels: list[str]) -> None:
        height = 0.8 / len(labels)
        for turn, (each, label) in enumerate(zip(values, labels, strict=True)):
            places = [place + 0.4 - height * (turn + 0.5) for place in range(len(contenders))]
            drawn = axis.barh(places, each, height, color=_BLUES[turn], label=label)
            texts = [f"{value:,.0f}" if value >= 10 else f"{value:.2g}" if value else "" for value in each]
            axis.bar_label(drawn, texts, padding=2, fontsize=6, color="#555555")

    def save(figure: Any, axes: Any, name: str) -> Path:
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="lower center", ncols=len(labels), frameon=False, fontsize=8)
        figure.text(0.995, 0.005, stated(told), fontsize=5, color="#777777", ha="right")
        figure.tight_layout(rect=(0, 0.05, 1, 1))
        path = folder / name
        figure.savefig(path, dpi=130)
        pyplot.close(figure)
        return path

    figure, axes = panels(len(_LOADS), "Requests/s, closed loop")
    for axis, (load, title) in zip(axes, _LOADS.items(), strict=True):
        rates = [[each["closed"][load][str(count)]["requests_per_s"] for each in contenders] for count in CONNECTIONS]
        bars(axis, rates, [f"{count} connection{'s' * (count > 1)}" for count in CONNECTIONS])
        axis.set_title(title, fontsize=9)
        axis.margins(x=0.15)
    paths = [save(figure, axes, "contest-throughput.png")]

    figure, axes = panels(len(_OPEN), "Latency in ms from the intended start")
    for axis, ((load, rate), title) in zip(axes, _OPEN.items(), strict=True):
        runs = [each["open"].get(load, {}).get(rate, {}) for each in contenders]
        bars(axis, [[run.get(name, 0.0) for run in runs] for name in _PERCENTILES], list(_PERCENTILES.values()))
        for place, run in enumerate(runs):
            if "p50_ms" not in run:
                why = f"not tried: {run['skipped']}" if "skipped" in run else ""
                axis.text(0.01, place, why, transform=axis.get_yaxis_transform(), fontsize=7, va="center")
        axis.set_xscale("log")
        axis.set_xlim(0.1, 4 * max([run.get("p99.9_ms", 0.0) for run in runs] + [1.0]))  # bars of all start alike
        axis.xaxis.set_major_formatter("{x:g}")
        axis.tick_params(which="minor", labelbottom=False)
        axis.set_title(title, fontsize=9)
    paths.append(save(figure, axes, "contest-latency.png"))
    return paths
