"""The contest as Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from benchmarks.budgets import budgets, ratio
from benchmarks.load import CONNECTIONS, Figures

_LOADS = {
    "similar, uniform": "Ten hits for one item, items chosen uniformly",
    "similar, zipf": "Ten hits for one item, items chosen by Zipf's law (s = 1)",
    "20 seeds": "Ten hits for 20 seeds of the 200 in use",
}
_OPEN = {
    "similar": "Ten hits for one item, uniform, at fixed rates",
    "20 seeds": "20 seeds of the 200 in use, at fixed rates",
    "20 seeds of all items": "20 seeds of all items, at fixed rates",
}


def report(told: Figures) -> str:
    """The whole of it, of a result as it was written."""
    figures = told["figures"]
    parts = [_head(told)]
    parts += [_closed(figures, load, title) for load, title in _LOADS.items()]
    parts += [_opened(figures, load, title) for load, title in _OPEN.items()]
    parts += [_cpu(figures), _memory(figures), _budgets(figures)]
    return "\n\n".join(parts) + "\n"


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows as a Markdown table."""
    head = list(head)
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)


def _head(told: Figures) -> str:
    machine, figures = told["machine"], told["figures"]
    versions = ", ".join(f"{name} {value}" for name, value in figures["versions"].items())
    about = [f"- **{each['name']}**: {each['about']}" for each in figures["contenders"].values()]
    return "\n".join(
        [
            "# The contest",
            "",
            f"{figures['items']:,} items, {figures['pairs']:,} pairs (scale {figures['scale']:g}), "
            f"{figures['seconds_per_run']:g} s a run, one contender after the other, load on the same cores. "
            f"`{told['command']}` made this file on {told['date']}, commit {told['commit'] or 'unknown'}.",
            "",
            f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; {machine['system']}; "
            f"Python {machine['python']}, Ray {machine['ray']}, {versions}.",
            "",
            *about,
            "",
            "Contenders that answer from the same scores gave the same hits before they were measured.",
        ]
    )


def short(value: float) -> str:
    """A number with three digits that count, or all before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _closed(figures: Figures, load: str, title: str) -> str:
    head = ["contender", *(f"{count} connection{'s' * (count > 1)}" for count in CONNECTIONS)]
    head += ["x the empty deployment", "x FastAPI + Redis, 1 worker"]
    rows = []
    for key, contender in figures["contenders"].items():
        line = [contender["name"]]
        for count in CONNECTIONS:
            run = contender["closed"][load][str(count)]
            wrong = f", {run['failed']} failed" if run["failed"] else ""
            times = f"{short(run['p50_ms'])} / {short(run['p99_ms'])}"
            line.append(f"{short(run['requests_per_s'])} ({times}{wrong})")
        for to in ("floor", "redis"):
            line.append(" / ".join(_times(ratio(figures, key, to, load, count)) for count in CONNECTIONS))
        rows.append(line)
    return f"## {title}\n\nRequests/s (p50 / p99 in ms), closed loop.\n\n{table(head, rows)}"


def _opened(figures: Figures, load: str, title: str) -> str:
    head = ["contender", "rate", "achieved", "p50", "p99", "p99.9", "max", "failed", "unanswered"]
    rows = []
    for contender in figures["contenders"].values():
        for run in contender["open"].get(load, {}).values():
            line = [contender["name"], f"{run['rate']:,.0f}/s"]
            if "skipped" in run:
                rows.append([*line, run["skipped"], *[""] * 6])
                continue
            times = [short(run[name]) for name in ("p50_ms", "p99_ms", "p99.9_ms", "max_ms")]
            rows.append([*line, f"{run['achieved_per_s']:,.0f}/s", *times, run["failed"], run["unanswered"]])
    told = (
        "Milliseconds from the moment at which a request was to start; one that was never answered counts as it waited."
    )
    return f"## {title}\n\n{told}\n\n{table(head, rows)}"


def _cpu(figures: Figures) -> str:
    rows = []
    for contender in figures["contenders"].values():
        for load in _LOADS:
            spent = contender["closed"][load]["8"]["cpu_us_per_request"]
            own = {kind: used for kind, used in spent.items() if kind != "wrk"}
            each = ", ".join(f"{kind} {used:,.0f}" for kind, used in sorted(own.items(), key=lambda pair: -pair[1]))
            rows.append([contender["name"], load, f"{sum(own.values()):,.0f}", each, f"{spent['wrk']:,.0f}"])
    head = ["contender", "load", "us a request", "of these", "wrk beside it"]
    return f"## CPU for a request, 8 connections\n\nUser and system time.\n\n{table(head, rows)}"


def _memory(figures: Figures) -> str:
    rows = []
    for contender in figures["contenders"].values():
        start, after = contender["private_mb_at_start"], contender["private_mb_after"]
        each = ", ".join(f"{kind} {used:,.0f}" for kind, used in sorted(after.items(), key=lambda pair: -pair[1]))
        seconds = contender["started_s"]
        rows.append([contender["name"], seconds, f"{sum(start.values()):,.0f}", f"{sum(after.values()):,.0f}", each])
    head = ["contender", "first answer after, s", "at start, MB", "after the load, MB", "of these"]
    told = "Private memory (`Anonymous`) of all its processes. What rivals hold was prepared before their start."
    return f"## Start and memory\n\n{told}\n\n{table(head, rows)}"


def _budgets(figures: Figures) -> str:
    words = {True: "met", False: "not met", None: "–"}
    rows = [[line.what, line.limit, line.measured, words[line.met], line.by] for line in budgets(figures)]
    head = ["what", "budget", "measured", "", "by"]
    told = "Ratios of throughput at 1, 8 and 32 connections; the worst of them counts."
    return f"## Budgets of serving\n\n{told}\n\n{table(head, rows)}"
