"""The pipeline from pair files to a published snapshot, readable top to bottom."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.ingest.catalogue import Catalogue, read_catalogue
from simshard.ingest.intake import Intake, read_pairs
from simshard.ingest.plan import Plan, make_plan
from simshard.ingest.publishing import MEMORY, assemble, check_memory, publish
from simshard.ingest.shuffle import PartitionJob, partition
from simshard.ingest.spills import remove_spill
from simshard.ingest.streams import STDIN, source_name
from simshard.ingest.tasks import Workers
from simshard.ingest.writing import ShardJob, SparseJob, rewrite_sparse, write_shard
from simshard.shards.errors import InputError
from simshard.shards.item_files import write_item_files
from simshard.shards.manifest import Encoding, Manifest
from simshard.shards.progress import Progress
from simshard.shards.store import Staging, Store

_LARGEST_PIECE = 16 << 20
_LEAST_PIECE = 1 << 16
_INLINE_PAIRS = 300_000


@dataclass(frozen=True)
class IngestOptions:
    """What `simshard ingest` was asked for; `memory` bounds the working memory of all workers together, in bytes.

    top: how many of each row are kept, the best; None: all. starts: first rows of the shards, which else have about
    equal numbers of pairs. workers: processes or Ray tasks at a time; None: as many as cores.
    """

    format: str | None = None
    fields: tuple[str, ...] | None = None
    items: str | None = None
    id_column: str | None = None
    title_column: str | None = None
    directed: bool = False
    top: int | None = None
    shards: int = 2
    starts: tuple[int, ...] | None = None
    batch_rows: int | None = None
    encoding: Encoding | None = None
    memory: int = MEMORY
    workers: int | None = None
    activate: bool = True


def ingest(paths: list[str], store: Store, options: IngestOptions, progress: Progress) -> Manifest:
    """Build, publish and (unless told otherwise) activate a snapshot of the pairs in the files; its manifest.

    Raises InputError with file and place for the first fault of the input; then nothing was published.
    """
    check_memory(options.memory)
    if paths.count(STDIN) > 1:
        raise InputError("stdin (-) can be read only once")
    catalogue = None
    if options.items:
        catalogue = read_catalogue(options.items, options.id_column, options.title_column)

    def build(staging: Staging, workers: Workers) -> Manifest:
        return _build(paths, staging, catalogue, options, workers, progress)

    return publish(store, build, options.workers, options.activate)


def _build(
    paths: list[str],
    staging: Staging,
    catalogue: Catalogue | None,
    options: IngestOptions,
    workers: Workers,
    progress: Progress,
) -> Manifest:
    scratch = staging.folder / "scratch"
    scratch.mkdir()
    left_out = catalogue.left_out if catalogue else {}
    piece = max(min(options.memory // workers.count // 16, _LARGEST_PIECE), _LEAST_PIECE)
    intake = Intake(scratch, options.directed, piece, workers)
    known = (options.items or "", catalogue.ids) if catalogue else None
    read_pairs(paths, intake, options.format, options.fields, known, progress)
    spills = intake.spills
    pairs = sum(spill.pairs for spill in spills)
    small = pairs < _INLINE_PAIRS

    ids, degrees = _in_row_order(*intake.degrees.merged(), catalogue)
    attributes = _attributes(catalogue, len(ids))
    files = write_item_files(staging.folder, ids, attributes)
    if options.top is not None and options.top >= len(ids) - 1:
        options = replace(options, top=None)
    _check_starts(options.starts, len(ids))
    plan = plan_rows(degrees, options, workers.count)

    progress.phase("Partitioning", "pairs", pairs)
    jobs = [PartitionJob(s.path, s.pairs, staging.folder, plan.bucket_bounds, options.directed) for s in spills]
    partitions = []
    for done, spilled in zip(workers.run(partition, jobs, small), spills, strict=True):
        partitions.append(done)
        remove_spill(spilled)
        progress.advance(spilled.pairs)

    progress.phase("Writing", "rows", len(ids))
    shards = []
    shard_jobs = [ShardJob(plan, i, staging.folder, partitions, options.top) for i in range(len(plan.shard_bounds) - 1)]
    for written in workers.run(write_shard, shard_jobs, small):
        shards.append(written)
        progress.advance(written.info.row_stop - written.info.row_start)
    shutil.rmtree(scratch)

    manifest = assemble(staging, plan, files, shards, options.directed, options.top is not None, workers, small)
    entries = sum(shard.info.entries for shard in shards)
    if plan.encoding == "dense" and options.encoding is None and not _is_dense(entries, len(ids)):
        # More than half of the records, but repeated ones: the guess from their number was wrong.
        manifest = _as_sparse(staging.folder, manifest, workers, small)
    unique = sum(shard.found for shard in shards) // (1 if options.directed else 2)
    dropped = {"self_pairs": sum(s.self_pairs for s in spills), "duplicates": pairs - unique}
    if options.top is not None:
        dropped["beyond_top_or_threshold"] = unique - manifest.pairs
    return replace(
        manifest,
        source={"files": [source_name(path) for path in paths], "items": options.items, "left_out": left_out},
        options={key: value for key, value in asdict(options).items() if key not in ("items", "workers")},
        dropped=dropped,
    )


def plan_rows(degrees: NDArray[np.int64], options: IngestOptions, workers: int) -> Plan:
    """How a build cuts rows with so many stored directions, int64 (N,), duplicates counted."""
    limits = degrees if options.top is None else np.minimum(degrees, options.top)
    encoding = options.encoding or ("dense" if _is_dense(int(limits.sum()), len(degrees)) else "sparse")
    memory = options.memory // workers // 2
    return make_plan(
        limits, encoding, options.shards, memory, gathered=degrees, starts=options.starts, batch_rows=options.batch_rows
    )


def _is_dense(directions: int, items: int) -> bool:
    """Whether so many are at least half of all possible ones."""
    return 2 * directions >= items * (items - 1)


def _check_starts(starts: tuple[int, ...] | None, items: int) -> None:
    if starts is None:
        return
    ascending = all(first < second for first, second in zip(starts[:-1], starts[1:], strict=True))
    if not starts or starts[0] != 0 or starts[-1] >= items or not ascending:
        raise InputError(f"--starts: row 0 and then ascending rows below {items:,}, the number of items, are needed")


def _as_sparse(folder: Path, manifest: Manifest, workers: Workers, small: bool) -> Manifest:
    target = folder / "sparse"
    target.mkdir()
    jobs = [SparseJob(folder, manifest, i, target) for i in range(len(manifest.shards))]
    shards = tuple(workers.run(rewrite_sparse, jobs, small))
    for shard in shards:
        os.replace(target / shard.file, folder / shard.file)
    target.rmdir()
    return replace(manifest, encoding="sparse", shards=shards)


def _in_row_order(
    ids: pa.Array, degrees: NDArray[np.int64], catalogue: Catalogue | None
) -> tuple[pa.Array, NDArray[np.int64]]:
    """All ids in row order, the catalogue's first, the rest ascending, with the degree of each."""
    order = pc.sort_indices(ids).to_numpy()
    if catalogue is None:
        return ids.take(order), degrees[order]
    rest = ids.take(order)
    rest = rest.filter(pc.invert(pc.is_in(rest, value_set=catalogue.ids)))
    all_ids = pa.concat_arrays([catalogue.ids, rest])
    all_degrees = np.zeros(len(all_ids), dtype=np.int64)
    all_degrees[pc.index_in(ids, value_set=all_ids).to_numpy()] = degrees
    return all_ids, all_degrees


def _attributes(catalogue: Catalogue | None, items: int) -> dict[str, pa.Array]:
    """The catalogue's columns, null for the items that only pairs name."""
    if catalogue is None:
        return {}
    missing = items - len(catalogue.ids)
    columns = catalogue.attributes.items()
    return {name: pa.concat_arrays([column, pa.nulls(missing, column.type)]) for name, column in columns}
