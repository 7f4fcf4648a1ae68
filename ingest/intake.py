"""Pair files of any format -> spills, with their distinct ids and exact places of faults."""

from __future__ import annotations

from contextlib import ExitStack, closing
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from simshard.ingest.pair_formats import choose
from simshard.ingest.pair_records import RefusedRecord
from simshard.ingest.pair_sources import PairSource
from simshard.ingest.spills import Spill, Spiller
from simshard.ingest.streams import Stream
from simshard.ingest.tasks import Workers
from simshard.shards.errors import InputError
from simshard.shards.progress import Progress


class Degrees:
    """The distinct ids of all spills with the stored directions of each, gathered as spills arrive."""

    def __init__(self) -> None:
        self._parts: list[tuple[pa.Array, NDArray[np.int64]]] = []
        self._waiting = 0

    def add(self, ids: pa.Array, counts: NDArray[np.int64]) -> None:
        """Take the ids of one spill in; merged when they outnumber those known, so that each is touched rarely."""
        self._parts.append((ids, counts))
        self._waiting += len(ids)
        if self._waiting > max(2 * len(self._parts[0][0]), 1 << 20):
            self.merged()

    def merged(self) -> tuple[pa.Array, NDArray[np.int64]]:
        """All ids, in no particular order, and their counts. Needs at least one spill."""
        encoded = pa.concat_arrays([ids for ids, _ in self._parts]).dictionary_encode()
        codes = encoded.indices.to_numpy()
        counts = np.zeros(len(encoded.dictionary), dtype=np.int64)
        np.add.at(counts, codes, np.concatenate([counts for _, counts in self._parts]))
        self._parts = [(encoded.dictionary, counts)]
        self._waiting = 0
        return self._parts[0]


class Intake:
    """The spills of all pair files in the order of the input, with their distinct ids and degrees."""

    def __init__(self, scratch: Path, directed: bool, piece_bytes: int, workers: Workers) -> None:
        self.spills: list[Spill] = []
        self.degrees = Degrees()
        self._spiller = Spiller(scratch, directed, piece_bytes, workers)

    def read(self, source: PairSource, progress: Progress) -> None:
        """Take a source in. Raises InputError with the place of the first fault."""
        try:
            for spilled in source.read(self._spiller):
                self.spills.append(spilled.spill)
                self.degrees.add(spilled.ids, spilled.degrees)
                progress.advance(spilled.spill.bytes)
        except RefusedRecord as error:
            place = f"{error.unit} {error.index + 1}"
            raise InputError(f"{source.name}: {place}: {error.reason}; nothing was published") from error


def read_pairs(
    paths: list[str],
    intake: Intake,
    format_: str | None,
    fields: tuple[str, ...] | None,
    ids: tuple[str, pa.Array] | None,
    progress: Progress,
) -> None:
    """Take all files in; `ids`: the items' ids that are known beforehand, with the file's name for messages."""
    with ExitStack() as opened:
        streams = [opened.enter_context(closing(Stream(path))) for path in paths]
        formats = [choose(stream, format_) for stream in streams]
        sources = [each.recognise(stream, fields) for each, stream in zip(formats, streams, strict=True)]
        _check_alike(sources, ids)
        sizes = [source.size for source in sources]
        progress.phase("Reading", "B", None if None in sizes else sum(size or 0 for size in sizes))
        for source in sources:
            intake.read(source, progress)
    if not sum(spill.pairs for spill in intake.spills):
        raise InputError(f"{', '.join(source.name for source in sources)}: no pairs of two different items")


def _check_alike(sources: list[PairSource], ids: tuple[str, pa.Array] | None) -> None:
    """Raise InputError where some ids are integers and others are text."""
    where, integer = (ids[0], pa.types.is_int64(ids[1].type)) if ids else (sources[0].name, sources[0].shape.integer)
    for source in sources:
        if source.shape.integer != integer:
            kinds = ("integers", "text") if integer else ("text", "integers")
            raise InputError(f"{source.name}: its ids are {kinds[1]}, but those of {where} are {kinds[0]}")
