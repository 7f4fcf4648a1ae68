"""Stores written straight through the writers, and matrices to write."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from simshard.ingest.writing import shard_name
from simshard.shards.format import BATCH_ROWS, ShardWriter
from simshard.shards.item_files import write_item_files
from simshard.shards.manifest import Manifest
from simshard.shards.store import Store
from simshard.shards.tops import dense_batch


def random_matrix(seed, items, density=0.7, levels=4, directed=False, negative=False):
    """float32 (N, N) with NaN where there is no pair; few levels make many ties."""
    rng = np.random.default_rng(seed)
    matrix = rng.integers(-levels if negative else 0, levels + 1, (items, items)).astype(np.float32) / np.float32(
        levels
    )
    matrix += rng.choice([0.0, 1e-3, 0.1], matrix.shape).astype(np.float32)
    matrix[rng.random(matrix.shape) >= density] = np.nan
    if not directed:
        lower = np.tril_indices(items)
        matrix[lower] = matrix.T[lower]
    np.fill_diagonal(matrix, np.nan)
    if items > 1 and np.isnan(matrix).all():
        matrix[0, 1] = matrix[1, 0] = 0.5
    return matrix


def write_store(
    root, matrix, encoding="dense", shards=2, batch_rows=BATCH_ROWS, ids=None, attributes=None, directed=False
):
    """Publish and activate a snapshot of the matrix; the store."""
    store = Store(root)
    items = len(matrix)
    bounds = np.linspace(0, items, min(shards, items) + 1).astype(int)
    with store.stage() as staging:
        written = []
        abs_max = 0.0
        for index, (start, stop) in enumerate(zip(bounds[:-1], bounds[1:], strict=True)):
            writer = ShardWriter(staging.folder / shard_name(index), encoding, items, int(start))
            for at in range(start, stop, batch_rows):
                block = matrix[at : min(at + batch_rows, stop)].copy()
                if encoding == "dense":
                    writer.write_dense(dense_batch(block))
                else:
                    lists = []
                    for row in block:
                        there = np.flatnonzero(~np.isnan(row))
                        lists.append(there[np.lexsort((there, -row[there]))])
                    offsets = np.cumsum([0] + [len(each) for each in lists])
                    scores = [row[each] for row, each in zip(block, lists, strict=True)]
                    writer.write_sparse(offsets, np.concatenate(lists).astype(np.uint32), np.concatenate(scores))
            written.append(writer.close())
            abs_max = max(abs_max, writer.score_abs_max)
        ids = pa.array(range(items), pa.int64()) if ids is None else ids
        files = write_item_files(staging.folder, ids, attributes or {})
        entries = sum(shard.entries for shard in written)
        staging.publish(
            Manifest(
                name=staging.name,
                created="2026-01-01T00:00:00+00:00",
                encoding=encoding,
                items=items,
                pairs=entries if directed else entries // 2,
                directed=directed,
                score_abs_max=abs_max,
                batch_rows=batch_rows,
                **files._asdict(),
                shards=tuple(written),
                source={},
                options={},
                dropped={},
            )
        )
    store.activate(staging.name)
    return store


def read_matrix(store, name=None):
    """The matrix of a snapshot again, by plain pyarrow: any Arrow tool can read a store. float32 (N, N)."""
    manifest = store.manifest(name)
    matrix = np.full((manifest.items, manifest.items), np.nan, dtype=np.float32)
    for shard in manifest.shards:
        table = pa.ipc.open_file(str(store.snapshots / manifest.name / shard.file)).read_all()
        for row, record in enumerate(table.to_pylist(), shard.row_start):
            if manifest.encoding == "dense":
                matrix[row] = [np.nan if score is None else score for score in record["scores"]]
            else:
                matrix[row, record["neighbors"]] = record["scores"]
    return matrix


def read_ids(store, name=None):
    """The ids of a snapshot in row order."""
    manifest = store.manifest(name)
    path = store.snapshots / manifest.name / manifest.items_file.file
    return pa.ipc.open_file(str(path)).read_all()["id"].to_pylist()
