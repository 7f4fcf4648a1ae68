"""What every build ends with: the manifest of what was written, and its publication, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from simshard.ingest.cut_lists import WrittenShard, count_pairs
from simshard.ingest.plan import Plan
from simshard.ingest.tasks import Workers, cores
from simshard.shards.errors import InputError, StoreError
from simshard.shards.item_files import ItemFiles
from simshard.shards.manifest import Manifest
from simshard.shards.store import Staging, Store

MEMORY = 512 << 20
_LEAST_MEMORY = 16 << 20


def check_memory(memory: int) -> None:
    """Raise InputError for a bound on working memory that no build can keep to."""
    if memory < _LEAST_MEMORY:
        raise InputError(f"--memory: at least {_LEAST_MEMORY >> 20} MB are needed")


def publish(
    store: Store, build: Callable[[Staging, Workers], Manifest], workers: int | None, activate: bool
) -> Manifest:
    """Stage, `build`, publish and, if wanted, activate a snapshot; its manifest. All or nothing."""
    try:
        with store.stage() as staging, Workers(workers or cores()[0]) as pool:
            manifest = build(staging, pool)
            staging.publish(manifest)
    except OSError as error:
        raise StoreError(f"{error.filename or store.root}: {error.strerror or error}; nothing was published") from error
    if activate:
        store.activate(manifest.name)
    return manifest


def assemble(
    staging: Staging,
    plan: Plan,
    files: ItemFiles,
    shards: Sequence[WrittenShard],
    directed: bool,
    cut: bool,
    workers: Workers,
    small: bool,
) -> Manifest:
    """The manifest of a snapshot that is written; where it comes from, and what was dropped, is left to be said.

    cut: whether rows hold their best only, so that of an undirected pair one direction may be stored, or both.
    """
    entries = sum(shard.info.entries for shard in shards)
    manifest = Manifest(
        name=staging.name,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        encoding=plan.encoding,
        items=plan.items,
        pairs=entries if directed else entries // 2,
        directed=directed,
        score_abs_max=max(shard.score_abs_max for shard in shards),
        batch_rows=plan.batch_rows,
        **files._asdict(),
        shards=tuple(shard.info for shard in shards),
        source={},
        options={},
        dropped={},
    )
    if directed or not cut:
        return manifest
    return replace(
        manifest, pairs=count_pairs(staging.folder, manifest, [shard.ends for shard in shards], workers, small)
    )
