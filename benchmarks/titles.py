"""Title search measured: an index of 40,000 and of a million titles, made of the words of real ones."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa

from benchmarks import anime, machine, record
from simshard.shards.titles import Titles, write_titles

QUERIES = ("a", "s", "nar", "naruto", "one piece", "full metal alch", "the", "cowboy bebop", "s t", "zzzz")
SIZES = (40_000, 1_000_000)


def search(folder: Path, titles: anime.Titles) -> record.Result:
    """Milliseconds of a search, of the ten queries the median and the slowest, and what private memory grows by."""
    words = " ".join(titles.titles[:5_000]).split()
    figures: dict[str, Any] = {}
    for count in SIZES:
        rng = np.random.default_rng(0)
        starts, lengths = rng.integers(0, len(words) - 8, count), rng.integers(1, 7, count)
        made = pa.array([" ".join(words[at : at + n]) for at, n in zip(starts, lengths, strict=True)])
        begun = time.perf_counter()
        info = write_titles(folder, made)
        written = time.perf_counter() - begun
        assert info is not None
        del made
        pa.default_memory_pool().release_unused()
        before = machine.private_mb(psutil.Process())
        index = Titles(folder)
        taken = []
        for query in QUERIES:
            index.search(query, 10)
            begun = time.perf_counter()
            for _ in range(20):
                index.search(query, 10)
            taken.append((time.perf_counter() - begun) / 20 * 1e3)
        figures[f"{count:,} titles"] = {
            "index_seconds": round(written, 2),
            "index_mb": round(info.bytes / 2**20, 1),
            "median_ms": round(float(np.median(taken)), 3),
            "slowest_ms": round(max(taken), 3),
            "private_mb_grown": round(max(machine.private_mb(psutil.Process()) - before, 0.0), 1),
        }
    return record.Result({"titles": list(SIZES), "queries": len(QUERIES)}, figures)
