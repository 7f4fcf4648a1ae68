"""Parsed pairs -> spills, which are files of codes and scores: pieces of a source by workers, side by side, or here."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.pair_records import Pairs, RefusedRecord
from simshard.ingest.tasks import Workers

_INLINE_BYTES = 8 << 20
_SPILLS_AT_ONCE = 64


class Portion(NamedTuple):
    """The pairs of one spill, in at least one part, how many records they were, and what these take of their file.

    records: as places count them, so blank lines are among them where lines are counted.
    """

    parts: list[Pairs]
    records: int
    bytes: int


class Piece(Protocol):
    """Whole records of a source. Workers parse it, so it can be pickled, and knows how to read them by itself."""

    @property
    def spills(self) -> int:
        """How many portions it has, or a few more."""

    def portions(self) -> Iterator[Portion]:
        """Its pairs in order. Raises RefusedRecord with the index from the piece's first record on, and InputError."""


@dataclass(frozen=True)
class Spill:
    """One spilled piece and what was counted on the way.

    On disk: codes of a, uint32 (pairs,), codes of b, scores float32; a code is a place in the ids beside it.
    """

    path: Path
    pairs: int
    records: int
    self_pairs: int
    bytes: int


class Spilled(NamedTuple):
    """A spill, its distinct ids (K,), and the stored directions of each, int64 (K,)."""

    spill: Spill
    ids: pa.Array
    degrees: NDArray[np.int64]


@dataclass(frozen=True)
class SpillJob:
    """Parse this piece into `path`, and others beside it."""

    piece: Piece
    path: Path
    directed: bool


def spill(job: SpillJob) -> list[Spilled]:
    """The spills of a piece, in its order. Raises what the piece does."""
    return list(_spills_of(job))


def _spills_of(job: SpillJob) -> Iterator[Spilled]:
    for number, portion in enumerate(job.piece.portions()):
        yield _write(portion, job.path.with_name(f"{job.path.stem}-{number}{job.path.suffix}"), job.directed)


class Spiller:
    """Where the spills of all sources are written; piece_bytes: about as many bytes of text make one."""

    def __init__(self, scratch: Path, directed: bool, piece_bytes: int, workers: Workers) -> None:
        self.piece_bytes = piece_bytes
        self._scratch, self._directed, self._workers = scratch, directed, workers
        self._numbers = count()

    def run(self, pieces: Iterable[Piece], size: int | None) -> Iterator[Spilled]:
        """The spills of pieces, in their order, a piece each or more; size: bytes of them all, if known.

        Workers write them, but for pieces so large that the spills of each would be many at once. Raises RefusedRecord
        with the index from the first piece's first record on, and what pieces raise.
        """
        small = size is not None and size < _INLINE_BYTES
        jobs = (SpillJob(piece, self._path(), self._directed) for piece in pieces)
        records = 0
        try:
            for large, some in groupby(jobs, key=lambda job: job.piece.spills > _SPILLS_AT_ONCE):
                for done in map(_spills_of, some) if large else self._workers.run(spill, some, small):
                    found = 0
                    for spilled in done:
                        found += spilled.spill.records
                        yield spilled
                    records += found
        except RefusedRecord as error:
            raise RefusedRecord(records + error.index, error.reason, error.unit) from error

    def write(self, portion: Portion) -> Spilled:
        """The spill of pairs that are here."""
        return _write(portion, self._path(), self._directed)

    def _path(self) -> Path:
        return self._scratch / f"{next(self._numbers):06d}.pairs"


def _write(portion: Portion, path: Path, directed: bool) -> Spilled:
    """Write parsed pairs, self-pairs dropped, ids as codes."""
    parts = portion.parts
    encoded = pa.concat_arrays([part.a for part in parts] + [part.b for part in parts]).dictionary_encode()
    scores = np.concatenate([part.scores for part in parts])
    codes = encoded.indices.to_numpy().astype(np.uint32, copy=False).reshape(2, -1)
    distinct = codes[0] != codes[1]
    self_pairs = len(scores) - int(distinct.sum())
    if self_pairs:
        codes, scores = codes[:, distinct], scores[distinct]
    degrees = np.bincount(codes[0], minlength=len(encoded.dictionary))
    if not directed:
        degrees += np.bincount(codes[1], minlength=len(encoded.dictionary))
    with open(path, "wb") as file:  # a task that Ray runs again begins anew
        np.ascontiguousarray(codes).tofile(file)
        scores.tofile(file)
    with pa.ipc.new_file(str(ids_path(path)), pa.schema({"id": encoded.dictionary.type})) as writer:
        writer.write_batch(pa.record_batch({"id": encoded.dictionary}))
    return Spilled(Spill(path, len(scores), portion.records, self_pairs, portion.bytes), encoded.dictionary, degrees)


def ids_path(path: Path) -> Path:
    """The file beside a spill with the ids that its codes stand for."""
    return path.with_suffix(".ids")


def remove_spill(spill: Spill) -> None:
    """Free the disk of a spill whose partition is there."""
    os.unlink(spill.path)
    os.unlink(ids_path(spill.path))
