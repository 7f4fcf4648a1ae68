"""The pipeline from a catalogue to a published snapshot: every pair scored, readable top to bottom."""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simshard.ingest.catalogue import Catalogue, read_catalogue
from simshard.ingest.feature_store import StoredFeature, as_lists, store_feature
from simshard.ingest.features import FeatureSpec, default_features, weighted
from simshard.ingest.plan import Plan, make_plan
from simshard.ingest.publishing import MEMORY, assemble, check_memory, publish
from simshard.ingest.scoring_tasks import CountJob, RowsJob, Scoring, count_scores, followed, write_rows
from simshard.ingest.similarity import TILE, shared_counts
from simshard.ingest.tasks import Workers, cores
from simshard.ingest.top_lists import MAX_ITEMS
from simshard.shards.errors import InputError, StoreError
from simshard.shards.item_files import write_item_files
from simshard.shards.manifest import Encoding, Manifest
from simshard.shards.progress import Progress
from simshard.shards.store import Staging, Store
from simshard.shards.tops import top_size

_INLINE_PAIRS = 10_000_000


@dataclass(frozen=True)
class ComputeOptions:
    """What `simshard compute` was asked for.

    inside: dotted place of the items in a JSON document; separators: columns of texts that hold lists; features: none
    for the defaults; features_toml: the text of the file that they come from; top, score_threshold: which scores of an
    item are kept; memory: bound on the working memory of all tasks together, in bytes; workers: cores to use (None:
    all).
    """

    id_column: str | None = None
    title_column: str | None = None
    inside: str | None = None
    separators: dict[str, str] = field(default_factory=dict)
    features: tuple[FeatureSpec, ...] = ()
    features_toml: str | None = None
    top: int | None = None
    score_threshold: float | None = None
    shards: int = 2
    encoding: Encoding | None = None
    memory: int = MEMORY
    workers: int | None = None
    activate: bool = True


def compute(path: str, store: Store, options: ComputeOptions, progress: Progress) -> Manifest:
    """Score all pairs of a catalogue's items, publish and (unless told otherwise) activate a snapshot; its manifest.

    Raises InputError naming file, column and item for the first fault of the input; then nothing was published.
    """
    check_memory(options.memory)
    features = weighted(options.features) if options.features else []
    separators = _separators(features) | options.separators
    progress.phase("Reading", "items", None)
    catalogue = read_catalogue(path, options.id_column, options.title_column, options.inside, separators)
    items = len(catalogue.ids)
    progress.advance(items)
    if not 2 <= items <= MAX_ITEMS:
        raise InputError(f"{path}: {items:,} items; from 2 to {MAX_ITEMS:,} can be compared with each other")
    if options.top is not None and options.top >= items - 1:
        options = replace(options, top=None)
    options = replace(options, features=tuple(features or default_features(path, catalogue)))

    def build(staging: Staging, workers: Workers) -> Manifest:
        return _build(path, staging, catalogue, options, workers, progress)

    return publish(store, build, options.workers, options.activate)


def _separators(features: list[FeatureSpec]) -> dict[str, str]:
    found: dict[str, str] = {}
    for spec in features:
        if spec.split and found.setdefault(spec.column, spec.split) != spec.split:
            raise InputError(f"feature {str(spec)!r}: its column is split at {found[spec.column]!r} by another feature")
    return found


def _build(
    path: str, staging: Staging, catalogue: Catalogue, options: ComputeOptions, workers: Workers, progress: Progress
) -> Manifest:
    items = len(catalogue.ids)
    possible = items * (items - 1) // 2
    small = possible < _INLINE_PAIRS
    scratch = staging.folder / "scratch"
    scratch.mkdir()
    scoring, masks = _store_features(path, catalogue, options, scratch)
    sets = {feature.spec.column for feature in scoring.features if feature.spec.kind == "set"} - {"title"}
    attributes = {name: as_lists(column) if name in sets else column for name, column in catalogue.attributes.items()}
    files = write_item_files(staging.folder, catalogue.ids, attributes)

    degrees = shared_counts(masks, len(options.features))
    scored = int(degrees.sum()) // 2
    if not scored:
        raise InputError(f"{path}: no two items have a feature in common")
    limits = degrees if options.top is None else np.minimum(degrees, options.top)
    if options.score_threshold is not None and (options.top is None or int(limits.sum()) >= possible):
        # Shards, or at least the encoding, depend on how many scores reach the threshold.
        limits = _count(scoring, options.score_threshold, possible, workers, small, progress)
        if options.top is not None:
            limits = np.minimum(limits, options.top)
    encoding = options.encoding or ("dense" if int(limits.sum()) >= possible else "sparse")
    concurrent = min(workers.count, options.shards)
    memory = options.memory // concurrent
    plan = make_plan(limits, encoding, options.shards, memory // 4, TILE)
    _check_space(staging.folder, plan, limits)

    threads = min(max(workers.count // concurrent, 1), cores()[1])
    starts = np.arange(0, items, TILE)
    entries = int(np.add.reduceat(limits, starts).max()) * 2  # a block may reach into two of these
    jobs = [
        RowsJob(scoring, plan, i, staging.folder, options.top, options.score_threshold, entries, threads, memory)
        for i in range(len(plan.shard_bounds) - 1)
    ]
    progress.phase("Scoring", "pairs", possible)
    with followed(scratch, progress):
        shards = list(workers.run(write_rows, jobs, small, threads))
    if not any(shard.info.entries for shard in shards):
        raise InputError(f"{path}: no score reaches --score-threshold {options.score_threshold:g}")
    manifest = assemble(staging, plan, files, shards, False, options.top is not None, workers, small)
    shutil.rmtree(scratch)
    return replace(
        manifest,
        source={"catalogue": path, "left_out": catalogue.left_out},
        options={key: value for key, value in asdict(options).items() if key != "workers"},
        dropped={"no_shared_feature": possible - scored, "beyond_top_or_threshold": scored - manifest.pairs},
    )


def _store_features(
    path: str, catalogue: Catalogue, options: ComputeOptions, scratch: Path
) -> tuple[Scoring, NDArray[np.uint64]]:
    """The features in files, and which each item has: bit f of uint64 (N,) for feature f."""
    masks = np.zeros(len(catalogue.ids), dtype=np.uint64)
    features: list[StoredFeature] = []
    for f, spec in enumerate(options.features):
        stored, present = store_feature(path, catalogue, spec, scratch / f"feature-{f}")
        features.append(stored)
        masks |= present.astype(np.uint64) << np.uint64(f)
    np.save(scratch / "masks.npy", masks)
    return Scoring(scratch, tuple(features)), masks


def _count(
    scoring: Scoring, threshold: float, possible: int, workers: Workers, small: bool, progress: Progress
) -> NDArray[np.int64]:
    """How many scores of each item reach the threshold, int64 (N,): half of the work of scoring."""
    jobs = [CountJob(scoring, first, workers.count, threshold) for first in range(workers.count)]
    progress.phase("Counting", "pairs", possible)
    with followed(scoring.scratch, progress):
        counts: NDArray[np.int64] = np.sum(list(workers.run(count_scores, jobs, small)), axis=0)
    return counts


def _check_space(folder: Path, plan: Plan, limits: NDArray[np.int64]) -> None:
    items = plan.items
    if plan.encoding == "dense":
        needed = items * (items * 4 + items // 8 + 8 * top_size(items))
    else:
        needed = 8 * int(limits.sum())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise StoreError(
            f"{folder.parents[1]}: the snapshot takes about {needed / 2**30:,.1f} GB, {free / 2**30:,.1f} GB are free; "
            "keep fewer scores with --top or --score-threshold"
        )
