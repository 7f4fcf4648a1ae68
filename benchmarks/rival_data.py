"""What simshard's rivals hold: the reference's scores in Redis and in an HDF5 file, vectors for FAISS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import orjson
from numpy.typing import NDArray

from benchmarks import reference
from simshard.serve.launch.redis_server import RedisServer, find_server

T = TypeVar("T")
BEST = 256
DIMENSIONS = 128
_BATCH = 128
_MEMORY = 6 << 30  # at most; the reference takes about 2


def payload(item: int) -> bytes:
    """The payload of an item as JSON, as simshard gives it."""
    return orjson.dumps({"title": reference.title(item)})


def _best(bounds: tuple[int, int, int]) -> list[list[tuple[int, float]]]:
    """Of each of these rows the best 256 with their scores, as the decimals that they were made as."""
    start, stop, items = bounds
    scores = np.nan_to_num(reference.block(start, stop, items), nan=-1.0)
    size = min(BEST, items - 1)
    best = np.argpartition(scores, -size, axis=1)[:, -size:]
    values = np.take_along_axis(scores, best, axis=1)
    return [_pairs(row[value >= 0], value[value >= 0]) for row, value in zip(best, values, strict=True)]


def _pairs(rows: NDArray[np.intp], scores: NDArray[np.float32]) -> list[tuple[int, float]]:
    return list(zip(rows.tolist(), scores.astype(np.float64).round(4).tolist(), strict=True))


def _worked(
    workers: ProcessPoolExecutor, work: Callable[[tuple[int, int, int]], T], items: int
) -> Iterator[tuple[tuple[int, int, int], T]]:
    """All rows in order, batch by batch: bounds and what the work made of them. Few at a time, as results are large."""
    jobs = [(start, min(start + _BATCH, items), items) for start in range(0, items, _BATCH)]
    for at in range(0, len(jobs), 4):
        some = jobs[at : at + 4]
        yield from zip(some, workers.map(work, some), strict=True)


class RedisData:
    """A private Redis server that holds the sets `s:ID` and `f:ID` and the payloads `p:ID`. Raises SystemExit."""

    def __init__(self, folder: Path, items: int, pool: list[int]) -> None:
        import redis

        binary = find_server().binary
        if binary is None:
            raise SystemExit("redis-server is needed for this benchmark (on Debian: apt-get install redis-server)")
        home = folder / "r"
        home.mkdir(mode=0o700)
        self.server = RedisServer(binary.path, home, _MEMORY)
        self.version = f"{binary.name} {binary.version}"
        try:
            client = redis.Redis(unix_socket_path=self.server.url.removeprefix("unix://"))
            client.config_set("maxmemory-policy", "noeviction")  # it is a store here; a full one must be told
            with ProcessPoolExecutor(2) as workers:
                for (start, stop, _), tops in _worked(workers, _best, items):
                    pipe = client.pipeline(transaction=False)
                    for item, best in zip(range(start, stop), tops, strict=True):
                        pipe.zadd(f"s:{item}", dict(best))
                        pipe.set(f"p:{item}", payload(item))
                    pipe.execute()
            for seed in pool:
                scores = reference.block(seed, seed + 1, items)[0]
                rows = np.flatnonzero(~np.isnan(scores))
                client.zadd(f"f:{seed}", dict(_pairs(rows, scores[rows])))
            self.memory_mb = round(client.info("memory")["used_memory"] / 2**20)
            client.close()
        except BaseException:
            self.server.stop()
            raise

    def stop(self) -> None:
        """End the server."""
        self.server.stop()


def write_payloads(folder: Path, items: int) -> str:
    """The path of a file that has the payload of one item a line."""
    path = folder / "payloads.ndjson"
    path.write_bytes(b"\n".join(payload(item) for item in range(items)))
    return str(path)


def write_vectors(folder: Path, items: int) -> dict[str, str]:
    """Settings of `faiss_app`: normal random vectors. The reference's scores are no inner products of any."""
    vectors = np.random.default_rng(5).normal(size=(items, DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    np.save(folder / "vectors.npy", vectors)
    return {"vectors": str(folder / "vectors.npy"), "payloads": write_payloads(folder, items)}


def write_matrix(folder: Path, items: int) -> dict[str, str]:
    """Settings of `h5py_app`: the reference's scores, 0 where there is no pair."""
    import h5py

    path = folder / "matrix.h5"
    with h5py.File(path, "w") as file, ProcessPoolExecutor(2) as workers:
        matrix = file.create_dataset("scores", (items, items), np.float32)
        for (start, stop, _), rows in _worked(workers, _rows, items):
            matrix[start:stop] = rows
    os.sync()  # or the kernel writes it back while requests are measured
    return {"matrix": str(path), "payloads": write_payloads(folder, items)}


def _rows(bounds: tuple[int, int, int]) -> NDArray[np.float32]:
    return np.nan_to_num(reference.block(*bounds), nan=0.0)
