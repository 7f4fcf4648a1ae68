"""Where the lists of rows end that hold the best only, and from that how many pairs are stored, once or twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.ingest.tasks import Workers
from simshard.shards.format import ShardReader
from simshard.shards.manifest import Manifest, ShardInfo
from simshard.shards.query import Rows


class Ends(NamedTuple):
    """Where the lists of R rows end that have all of their `top`: last score, float32 (R,), and its neighbor, uint32.

    -inf and 0 for the others: nothing of theirs was cut off.
    """

    scores: NDArray[np.float32]
    neighbors: Rows


NO_ENDS = Ends(np.empty(0, np.float32), np.empty(0, np.uint32))


def ends_of(offsets: NDArray[np.int64], neighbors: Rows, scores: NDArray[np.float32], top: int) -> Ends:
    """The ends of R rows: row i has entries offsets[i]:offsets[i+1], best first, at most `top`."""
    full = np.diff(offsets) == top
    last = offsets[1:][full] - 1
    ends = Ends(np.full(len(full), -np.inf, dtype=np.float32), np.zeros(len(full), dtype=np.uint32))
    ends.scores[full] = scores[last]
    ends.neighbors[full] = neighbors[last]
    return ends


def join_ends(parts: list[Ends]) -> Ends:
    """The ends of the rows of all parts."""
    if not parts:
        return NO_ENDS
    return Ends(np.concatenate([part.scores for part in parts]), np.concatenate([part.neighbors for part in parts]))


@dataclass(frozen=True)
class WrittenShard:
    """A finished shard file, the largest absolute score in it, and where its lists end (no rows without `top`)."""

    info: ShardInfo
    score_abs_max: float
    ends: Ends


@dataclass(frozen=True)
class MutualJob:
    """Count, in shard `index` of the snapshot in `folder`, the scores that are stored in both directions.

    ends: a file with the ends of all rows.
    """

    folder: Path
    manifest: Manifest
    index: int
    ends: Path


def count_mutual(job: MutualJob) -> int:
    """How many stored scores of the shard's rows are in the other item's list as well.

    Scores are symmetric, so b's list holds a unless b's list is full of what comes before (score(b, a), a).
    """
    with np.load(job.ends, allow_pickle=False) as file:
        ends = Ends(file["scores"], file["neighbors"])
    reader = ShardReader(job.folder, job.manifest, job.index)
    mutual = 0
    for row in range(reader.row_start, reader.row_stop):
        neighbors, scores = reader.neighbors(row)
        last = ends.scores[neighbors]
        mutual += int(((scores > last) | ((scores == last) & (row <= ends.neighbors[neighbors]))).sum())
    return mutual


def count_pairs(folder: Path, manifest: Manifest, ends: list[Ends], workers: Workers, small: bool) -> int:
    """How many pairs an undirected snapshot holds whose rows, of all shards in order, end there; each counts once."""
    path = folder / "ends.npz"
    joined = join_ends(ends)
    np.savez(path, scores=joined.scores, neighbors=joined.neighbors)
    jobs = [MutualJob(folder, manifest, i, path) for i in range(len(manifest.shards))]
    mutual = sum(workers.run(count_mutual, jobs, small))
    path.unlink()
    return sum(shard.entries for shard in manifest.shards) - mutual // 2
