"""`simshard compute` measured: real titles, a generated catalogue of the reference size, vectors at growing sizes."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import anime, machine, record
from simshard.ingest.similarity import one_thread
from simshard.shards.format import BATCH_ROWS, ShardWriter
from simshard.shards.tops import DenseBatch, dense_batch

ITEMS = 37_030
TAGS = 300
VECTORS = 128
Figures = dict[str, Any]


def _compute(folder: Path, *arguments: str | Path) -> Figures:
    """Run the command; what it made is removed."""
    store = folder / "computed"
    run = machine.run("compute", *arguments, "--store", store, "--json")
    manifest = json.loads(run.output)
    for path in (store / "snapshots" / manifest["name"]).iterdir():
        path.unlink()
    pairs = manifest["items"] * (manifest["items"] - 1) // 2
    return {
        "items": manifest["items"],
        "pairs_scored": pairs,
        "pairs_kept": manifest["pairs"],
        "bytes": sum(shard["bytes"] for shard in manifest["shards"]),
        "seconds": round(run.seconds, 2),
        "pairs_per_s": round(pairs / run.seconds),
        "user_cpu_seconds": round(run.user_seconds, 2),
        "system_cpu_seconds": round(run.system_seconds, 2),
        "peak_private_mb_all_processes": round(run.peak_mb),
    }


def compute(folder: Path, titles: anime.Titles | None) -> record.Result:
    """All pairs of the real titles, where they are there, and of a generated catalogue of the reference size."""
    figures = {"titles": of_titles(folder, titles)} if titles is not None else {}
    figures["reference size"] = reference_size(folder)
    return record.Result(_scale(figures), figures)


def _scale(figures: Figures) -> Figures:
    return {name: {"items": each["items"], "pairs_scored": each["pairs_scored"]} for name, each in figures.items()}


def of_titles(folder: Path, titles: anime.Titles) -> Figures:
    """All pairs of the titles by genres, score and episodes."""
    tags, *numbers = titles.columns
    features = [f"{tags}:set", *(f"{name}:number" for name in dict.fromkeys(numbers))]
    options = [word for feature in features for word in ("--feature", feature)]
    return _compute(folder, titles.path, "--id", titles.id_column, *options)


def write_catalogue(path: Path) -> NDArray[np.float32]:
    """Items of 1 to 20 of 300 tags, score, year and type, each missing in 3 %; whether item i has tag t, (N, 300)."""
    rng = np.random.default_rng(0)
    odds = 1 / np.arange(3, TAGS + 3) ** 0.6
    member = np.zeros((ITEMS, TAGS), dtype=np.float32)
    with open(path, "w", encoding="ascii") as file:
        for item in range(ITEMS):
            tags = rng.choice(TAGS, rng.integers(1, 21), replace=False, p=odds / odds.sum())
            record = {
                "tags": [f"tag {tag}" for tag in tags],
                "score": round(float(rng.normal(6.5, 1)), 2),
                "year": int(rng.integers(1960, 2026)),
                "type": str(rng.choice(["TV", "Movie", "OVA", "Special", "ONA"])),
            }
            there = {name: value for name, value in record.items() if rng.random() > 0.03}
            file.write(json.dumps({"id": item, **there}) + "\n")
            member[item, tags] = "tags" in there
    return member


def reference_size(folder: Path) -> Figures:
    """All pairs of the generated catalogue, beside the bare matrix product and a write of the same bytes."""
    member = write_catalogue(folder / "items.ndjson")
    figures = _compute(folder, folder / "items.ndjson")

    out = np.empty((512, ITEMS), dtype=np.float32)
    begun = time.process_time()
    with one_thread():
        for first in range(0, ITEMS, 512):
            rows = member[first : first + 512]
            np.matmul(rows, member.T, out=out[: len(rows)])
    product = time.process_time() - begun

    batch = dense_batch(np.random.default_rng(0).random((BATCH_ROWS, ITEMS), dtype=np.float32))
    sequential, through_writer = zip(*(_writes(folder, batch) for _ in range(3)), strict=True)
    write, writer = sorted(sequential)[1], sorted(through_writer)[1]
    return {
        **figures,
        "bare_product_cpu_seconds": round(product, 2),
        "user_cpu_ratio_to_bare_product": round(figures["user_cpu_seconds"] / product, 2),
        "sequential_write_seconds": [round(seconds, 2) for seconds in sequential],
        "writer_seconds": [round(seconds, 2) for seconds in through_writer],
        "writer_ratio_to_sequential_write": round(writer / write, 2),
        "seconds_ratio_to_sequential_write": round(figures["seconds"] / write, 2),
    }


def _writes(folder: Path, batch: DenseBatch) -> tuple[float, float]:
    """Seconds of a plain write of a full matrix's bytes, forced to disk, and of the same through the shard writer."""
    path = folder / "written"
    blocks = ITEMS // BATCH_ROWS
    begun = time.perf_counter()
    with open(path, "wb", buffering=0) as file:
        for _ in range(blocks):
            for column in (batch.scores, np.packbits(batch.present), batch.top, batch.top_scores):
                file.write(memoryview(column).cast("B"))
        os.fsync(file.fileno())
    plain = time.perf_counter() - begun
    path.unlink()
    begun = time.perf_counter()
    writer = ShardWriter(path, "dense", ITEMS, 0)
    for _ in range(blocks):
        writer.write_dense(batch)
    writer.close()
    through_writer = time.perf_counter() - begun
    path.unlink()
    return plain, through_writer


def vectors(folder: Path, sizes: tuple[int, ...]) -> record.Result:
    """The best 200 of each of so many items by 128-dimensional vectors around 1,000 centers."""
    figures: Figures = {}
    for size in sizes:
        rng = np.random.default_rng(0)
        centers = rng.normal(size=(1000, VECTORS)).astype(np.float32)
        values = centers[rng.integers(0, 1000, size)] + rng.normal(size=(size, VECTORS)).astype(np.float32)
        np.save(folder / "vector.npy", values)
        del values
        with open(folder / "items.csv", "w", encoding="ascii") as file:
            file.write("id,title\n" + "\n".join(f"{item},Item {item}" for item in range(size)))
        figures[f"{size:,} items"] = _compute(
            folder, folder / "items.csv", "--feature", "vector:vector", "--top", "200"
        )
        print(json.dumps(figures[f"{size:,} items"]))
    return record.Result(_scale(figures), figures)
