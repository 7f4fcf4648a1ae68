"""The body of /healthz: what state a replica is in."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from simshard.serve.cluster.rounds import State
from simshard.serve.cluster.slots import told
from simshard.serve.engine.service import Service
from simshard.serve.engine.table import Table


def describe_health(service: Service, state: State, problem: str | None) -> dict[str, Any]:
    """What the model Health says; `state` is the supervisor's for the table that is served."""
    table, redis = service.table, service.cache.redis
    manifest = table.snapshot.manifest if table else None
    problems = [each for each in (problem, state.waits, _unsupervised(state) if table else None) if each]
    return {
        "status": "unavailable" if table is None else "degraded" if problems else "ok",
        "version": version("simshard"),
        "snapshot": table.name if table else None,
        "items": manifest.items if manifest else None,
        "pairs": manifest.pairs if manifest else None,
        "shards": _shards(table, state) if table else [],
        "cache": {
            "memory_bytes": service.cache.memory.bytes,
            "redis": "off" if redis is None else "skipped" if redis.breaker.open else "ok",
        },
        "hidden": len(service.hidden.items),
        "problem": "; ".join(problems) or None,
    }


def _shards(table: Table, state: State) -> list[dict[str, Any]]:
    held = dict(enumerate(state.held))
    shards = []
    for shard, (info, way) in enumerate(zip(table.snapshot.manifest.shards, table.transports, strict=True)):
        where = held.get(shard)
        shards.append(
            {
                "shard": shard,
                "row_start": info.row_start,
                "row_stop": info.row_stop,
                "bytes": info.bytes,
                "transport": "actor" if way.remote else "local",
                "host": where.host if where else None,
                "node": where.node if where else None,
                "state": "away" if shard in state.away else "ok",
            }
        )
    return shards


def _unsupervised(state: State) -> str | None:
    """What the supervisor cannot say of the table that is served, or says that is away."""
    if state.snapshot is None:
        return "the supervisor is opening the snapshot again"
    return f"away: {told(state.away)}" if state.away else None
