"""The serving budgets of the design, each with what the contest measured: met or not, and by how much."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from benchmarks.load import CONNECTIONS, Figures

FLOOR_SHARE = 0.9
REDIS_FACTOR = 1.3
UNION_FACTOR = 50.0
SIMILAR_P99_MS = 7.0
RECOMMEND_P99_MS = 10.0
BULK_PER_S = 1_000_000
MEMORY_MB = 500.0
START_S = 10.0
SWITCH_FACTOR = 2.0
GROWTH_FACTOR = 1.1  # what still counts as flat on a noisy machine


class Budget(NamedTuple):
    """A line: what, what it may be, what it is, whether it is met (None: not measured), how far from the limit."""

    what: str
    limit: str
    measured: str
    met: bool | None
    by: str


def rate(figures: Figures, key: str, load: str, connections: int) -> float | None:
    """Requests/s of a contender in a closed loop; None where it did not take part."""
    found: Any = figures["contenders"].get(key, {}).get("closed", {}).get(load, {}).get(str(connections))
    return found["requests_per_s"] if found else None


def ratio(figures: Figures, key: str, to: str, load: str, connections: int) -> float | None:
    """How many times the throughput of another; None where one of them did not take part, or answered nothing."""
    own, other = (rate(figures, name, load, connections) for name in (key, to))
    return own / other if own and other else None


def budgets(figures: Figures) -> list[Budget]:
    """All of them. Ratios are those of the worst number of connections, and each way of caching has a line."""
    found = []
    for key, name in (("simshard", "in-process cache"), ("simshard-nocache", "no cache")):
        for load in ("similar, uniform", "similar, zipf"):
            found += [
                _ratio(figures, f"{load}, {name}: of the empty deployment", key, "floor", load, FLOOR_SHARE),
                _ratio(figures, f"{load}, {name}: of FastAPI + Redis, 1 worker", key, "redis", load, REDIS_FACTOR),
            ]
        found.append(_latency(figures, f"similar at 1,000/s, {name}", key, "similar", 1000, SIMILAR_P99_MS))
    key = "simshard-nocache"
    for load, name in (("20 seeds", "seeds in use"), ("20 seeds of all items", "any seeds")):
        what = f"20 seeds at 200/s, {name}, no cache, local transport"
        found.append(_latency(figures, what, key, load, 200, RECOMMEND_P99_MS))
    found.append(
        _ratio(figures, "20 seeds: of FastAPI + Redis ZUNIONSTORE, 1 worker", key, "redis", "20 seeds", UNION_FACTOR)
    )
    for name, value in (("similar", 1000), ("20 seeds", 200)):
        line = _latency(figures, f"{name} at {value}/s, actor transport", "simshard-actors", name, value, 0.0)
        found.append(line._replace(limit="a line of its own", met=None, by=""))
    bulk = figures.get("bulk", {}).get("handle", {}).get("items_per_s")
    found.append(_least("bulk lookups through a handle", bulk, BULK_PER_S, "items/s"))
    found += _memory(figures)
    started = figures["contenders"].get("simshard", {}).get("started_s")
    found.append(_most("command to first answer, files not in the page cache", started, START_S, "s"))
    found += _switch(figures)
    found.append(_growth(figures))
    return found


def _least(what: str, value: float | None, limit: float, unit: str) -> Budget:
    return _line(what, value, limit, unit, ">=", lambda v: v >= limit)


def _most(what: str, value: float | None, limit: float, unit: str) -> Budget:
    return _line(what, value, limit, unit, "<=", lambda v: v <= limit)


def _line(
    what: str, value: float | None, limit: float, unit: str, sign: str, passes: Callable[[float], bool]
) -> Budget:
    allowed = f"{sign} {f'{limit:,.0f}' if limit >= 1000 else f'{limit:g}'} {unit}".strip()
    if value is None:
        return Budget(what, allowed, "not measured", None, "")
    by = f"{value / limit - 1:+.0%} of the limit" if limit else ""
    shown = f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return Budget(what, allowed, f"{shown} {unit}".strip(), passes(value), by)


def _ratio(figures: Figures, what: str, key: str, to: str, load: str, limit: float) -> Budget:
    each = {count: ratio(figures, key, to, load, count) for count in CONNECTIONS}
    known = {count: value for count, value in each.items() if value is not None}
    line = _least(what, min(known.values(), default=None), limit, "x")
    if known:
        line = line._replace(measured=" / ".join(f"{value:.2f}" for value in known.values()) + " x")
    return line


def _latency(figures: Figures, what: str, key: str, load: str, value: int, limit: float) -> Budget:
    found: Figures = figures["contenders"].get(key, {}).get("open", {}).get(load, {}).get(str(value), {})
    line = _most(f"{what}: p99", found.get("p99_ms"), limit, "ms")
    if "skipped" in found:
        return line._replace(measured=found["skipped"], met=False)
    wrong = found.get("failed", 0) + found.get("unanswered", 0)
    if not found:
        return line
    told = f"{line.measured} (p50 {found['p50_ms']:.3g}, p99.9 {found['p99.9_ms']:.3g})"
    if wrong or found["achieved_per_s"] < 0.95 * value:
        told += f"; {found['achieved_per_s']:,.0f}/s achieved, {wrong} failed or unanswered"
        return line._replace(measured=told, met=False)
    return line._replace(measured=told)


def _memory(figures: Figures) -> list[Budget]:
    both = figures["contenders"].get("simshard-2", {})
    lines = []
    for when, key in (("at start", "private_mb_at_start"), ("after the load", "private_mb_after")):
        found = both.get(key)
        own = found.get("shard actors", 0) + found.get("replicas", 0) if found else None
        line = _most(f"private memory, 2 shard actors + 2 replicas, {when}", own, MEMORY_MB, "MB")
        if found:
            requests = f" and {answered(both):,} requests" if when != "at start" else ""
            line = line._replace(
                what=line.what + requests, measured=f"{own:.0f} MB (whole tree: {sum(found.values()):.0f} MB)"
            )
        lines.append(line)
    return lines


def answered(contender: Figures) -> int:
    """Requests that a contender was measured with."""
    closed = [run["requests"] for runs in contender["closed"].values() for run in runs.values()]
    opened = [run.get("requests", 0) for runs in contender["open"].values() for run in runs.values()]
    return sum(closed) + sum(opened)


def _switch(figures: Figures) -> list[Budget]:
    found = figures.get("switch")
    failed = None if found is None else float(found["with"]["failed"] + found["with"]["unanswered"])
    before, after = (float(found[name]["p99_ms"]) if found else 0.0 for name in ("without", "with"))
    lines = [
        _most("switch of snapshots at 500/s: failed requests", failed, 0.0, ""),
        _most(
            "switch of snapshots at 500/s: p99 to that without", after / before if found else None, SWITCH_FACTOR, "x"
        ),
    ]
    if found:
        lines[1] = lines[1]._replace(measured=f"{lines[1].measured} ({before:.3g} -> {after:.3g} ms)")
        if found["switched_after_s"] is None:
            lines[0] = lines[0]._replace(measured="did not switch", met=False)
    return lines


def _growth(figures: Figures) -> Budget:
    found: Figures = figures.get("growth", {})
    small, large = list(found.values()) if len(found) == 2 else ({}, {})
    value = large["p50_ms"] / small["p50_ms"] if small else None
    line = _most("lookup latency, all pairs to a tenth: p50", value, GROWTH_FACTOR, "x")
    told = f"{line.measured} ({small['p50_ms']:.3g} -> {large['p50_ms']:.3g} ms)" if small else line.measured
    return line._replace(limit=f"flat ({line.limit})", measured=told)
