"""The work of `compute` in tasks: rows of the matrix scored, selected and written as one shard."""

from __future__ import annotations

import tempfile
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.ingest.cut_lists import NO_ENDS, Ends, WrittenShard, ends_of, join_ends
from simshard.ingest.feature_store import StoredFeature, reserve
from simshard.ingest.plan import Plan
from simshard.ingest.similarity import TILE, Scorer, Scores, one_thread
from simshard.ingest.top_lists import ENTRY_BYTES, Lists, least, lists_of, tiles_in_turn
from simshard.ingest.writing import shard_name
from simshard.shards.format import ShardWriter
from simshard.shards.progress import Progress
from simshard.shards.query import Rows
from simshard.shards.tops import DenseBatch, dense_batch

_SCORE_BYTES = 6  # what a score of a block of whole rows takes: itself, whether it is present, and temporaries
_POLL = 0.2


@dataclass(frozen=True)
class Scoring:
    """Features in files of `scratch`, and the mask of those that each item has, in masks.npy."""

    scratch: Path
    features: tuple[StoredFeature, ...]

    def open(self) -> Scorer:
        """The scorer, with its arrays mapped."""
        weights = np.array([feature.spec.weight for feature in self.features])
        return Scorer([feature.open() for feature in self.features], weights, np.load(self.scratch / "masks.npy"))


@dataclass(frozen=True)
class RowsJob:
    """Score and write shard `index` of the plan into `folder`.

    entries: at most so many scores are stored of 256 rows; threads: how many blocks of rows are scored at a time, in
    `memory` bytes together.
    """

    scoring: Scoring
    plan: Plan
    index: int
    folder: Path
    top: int | None
    score_threshold: float | None
    entries: int
    threads: int
    memory: int


class _SparseBatch(NamedTuple):
    offsets: NDArray[np.int64]
    neighbors: Rows
    scores: Scores


_Batch = tuple[DenseBatch | _SparseBatch, Ends]


def write_rows(job: RowsJob) -> WrittenShard:
    """Score the shard's rows, block by block of 256 in threads, and write them in order."""
    plan = job.plan
    start, stop = plan.shard_bounds[job.index : job.index + 2].tolist()
    writer = ShardWriter(job.folder / shard_name(job.index), plan.encoding, plan.items, start)
    meter = _Meter(job.scoring.scratch, job.index)
    todo = iter(range(start, stop, TILE))
    ends = []
    with one_thread(), ThreadPoolExecutor(job.threads) as pool:
        scorer = job.scoring.open()
        buffers = _buffers(job)
        running: deque[tuple[Future[Iterable[_Batch]], Scores | None]] = deque()
        while True:
            while buffers and (first := next(todo, None)) is not None:
                buffer = buffers.pop()
                rows = slice(first, min(first + TILE, stop))
                running.append((pool.submit(_score, job, scorer, rows, buffer), buffer))
            if not running:
                break
            future, buffer = running.popleft()
            for batch, end in future.result():
                if isinstance(batch, DenseBatch):
                    writer.write_dense(batch)
                else:
                    writer.write_sparse(*batch)
                ends.append(end)
            buffers.append(buffer)
            meter.set((writer.row - start) * (plan.items - 1) // 2)
    return WrittenShard(writer.close(), writer.score_abs_max, join_ends(ends))


def _buffers(job: RowsJob) -> list[Scores | None]:
    """What blocks are scored in: None where short lists are gathered, else arrays float32 (256, N).

    One more than there are threads, so that one is written while the others fill, or fewer where memory is short. Where
    not even one fits, its pages are a file's.
    """
    gathered = job.entries if job.top is None else 2 * job.top * TILE
    if job.plan.encoding == "sparse" and (job.threads + 1) * (gathered + 2 * TILE**2) * ENTRY_BYTES <= job.memory:
        return [None] * (job.threads + 1)
    shape = (TILE, job.plan.items)
    count = min(job.threads + 1, job.memory // (TILE * job.plan.items * _SCORE_BYTES))
    if count:
        return [np.empty(shape, dtype=np.float32) for _ in range(count)]
    with tempfile.TemporaryFile(dir=job.scoring.scratch) as file:
        reserve(file, 4 * TILE * job.plan.items)
        return [np.memmap(file, dtype=np.float32, mode="w+", shape=shape)]


def _score(job: RowsJob, scorer: Scorer, rows: slice, buffer: Scores | None) -> Iterable[_Batch]:
    """The batches of a block of rows, which may lie in two rows of tiles, ready to be written."""
    if buffer is None:
        return _gather(job, scorer, rows)
    block = buffer[: rows.stop - rows.start]
    for part, tile, within in _parts(rows):
        for first, scores in scorer.row(tile, range(scorer.tiles)):
            block[part, first : first + scores.shape[1]] = scores[within]
    batches = (_select(job, block[at : at + job.plan.batch_rows]) for at in range(0, len(block), job.plan.batch_rows))
    return batches if isinstance(buffer, np.memmap) else list(batches)


def _parts(rows: slice) -> Iterator[tuple[slice, int, slice]]:
    """Where the rows lie: which of them, in which row of tiles, at which rows in it."""
    for tile in range(rows.start // TILE, (rows.stop - 1) // TILE + 1):
        first, stop = max(rows.start, tile * TILE), min(rows.stop, (tile + 1) * TILE)
        yield slice(first - rows.start, stop - rows.start), tile, slice(first - tile * TILE, stop - tile * TILE)


def _select(job: RowsJob, scores: Scores) -> _Batch:
    """A batch of what is stored of whole rows of scores, which are overwritten."""
    if job.score_threshold is not None:
        scores[scores < least(job.score_threshold)] = np.nan
    if job.plan.encoding == "dense" and job.top is None:
        return dense_batch(scores), _ends(job, None)
    lists = _SparseBatch(*lists_of(scores, job.top))
    if job.plan.encoding == "dense":
        scores.fill(np.nan)
        scores[np.repeat(np.arange(len(scores)), np.diff(lists.offsets)), lists.neighbors] = lists.scores
        return dense_batch(scores), _ends(job, lists)
    return lists, _ends(job, lists)


def _gather(job: RowsJob, scorer: Scorer, rows: slice) -> list[_Batch]:
    """The same from tile after tile, without whole rows."""
    parts = []
    for part, tile, within in _parts(rows):
        lists = Lists(part.stop - part.start, job.top, job.score_threshold)
        for first, scores in scorer.row(tile, tiles_in_turn(scorer.tiles)):
            lists.offer(first, scores[within])
        parts.append(lists.finish())
    counts = np.concatenate([np.diff(offsets) for offsets, _, _ in parts])
    offsets = np.concatenate(([0], np.cumsum(counts)))
    neighbors = np.concatenate([neighbors for _, neighbors, _ in parts])
    scores = np.concatenate([scores for _, _, scores in parts])
    batches: list[_Batch] = []
    for at in range(0, len(counts), job.plan.batch_rows):
        bounds = offsets[at : at + job.plan.batch_rows + 1]
        some = slice(bounds[0], bounds[-1])
        batch = _SparseBatch(bounds - bounds[0], neighbors[some], scores[some])
        batches.append((batch, _ends(job, batch)))
    return batches


def _ends(job: RowsJob, lists: _SparseBatch | None) -> Ends:
    return NO_ENDS if lists is None or job.top is None else ends_of(*lists, job.top)


@dataclass(frozen=True)
class CountJob:
    """Count scores that reach the threshold in every `step`-th row of tiles from `first` on."""

    scoring: Scoring
    first: int
    step: int
    score_threshold: float


def count_scores(job: CountJob) -> NDArray[np.int64]:
    """How many scores of each item reach the threshold, of those in the job's tiles on and above the diagonal."""
    meter = _Meter(job.scoring.scratch, job.first)
    done = 0
    with one_thread():
        scorer = job.scoring.open()
        counts = np.zeros(scorer.items, dtype=np.int64)
        for tile in range(job.first, scorer.tiles, job.step):
            for first, scores in scorer.row(tile, range(tile, scorer.tiles)):
                kept = scores >= least(job.score_threshold)
                rows, columns = kept.shape
                counts[tile * TILE : tile * TILE + rows] += kept.sum(axis=1)
                if first != tile * TILE:
                    counts[first : first + columns] += kept.sum(axis=0)
                done += rows * columns if first != tile * TILE else rows * (rows - 1) // 2
            meter.set(done)
    return counts


class _Meter:
    """How far a task is, in a file that `followed` reads."""

    def __init__(self, scratch: Path, index: int) -> None:
        self._path = scratch / f"{index}.meter"

    def set(self, done: int) -> None:
        self._path.write_bytes(done.to_bytes(8, "little"))


@contextmanager
def followed(scratch: Path, progress: Progress) -> Iterator[None]:
    """A context in which the tasks' meters are reported as they move; they are gone afterwards."""
    ended = threading.Event()
    told = 0

    def tell() -> None:
        nonlocal told
        done = sum(int.from_bytes(path.read_bytes(), "little") for path in scratch.glob("*.meter"))
        if done > told:
            progress.advance(done - told)
            told = done

    def follow() -> None:
        while not ended.wait(_POLL):
            tell()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        tell()
        for path in scratch.glob("*.meter"):
            path.unlink()
