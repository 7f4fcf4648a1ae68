"""Pair files -> spills: pieces parsed in parallel; from a piece that is not flat records on, a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, count
from pathlib import Path

import pyarrow as pa

from simshard.ingest.records import Malformed, RefusedRecord, stream_array
from simshard.ingest.shuffle import Degrees, Spill, Spilled, SpillJob, spill, spill_pairs
from simshard.ingest.sources import Piece, Source, Stream, cut, recognise
from simshard.ingest.tasks import Progress, run
from simshard.shards.errors import InputError

_INLINE_BYTES = 8 << 20
_BLOCK = 1 << 16


class Intake:
    """The spills of all pair files in the order of the input, with their distinct ids and degrees."""

    def __init__(self, scratch: Path, directed: bool, piece_bytes: int, workers: Callable[[bool], int]) -> None:
        self.spills: list[Spill] = []
        self.degrees = Degrees()
        self._scratch, self._directed, self._piece_bytes, self._workers = scratch, directed, piece_bytes, workers
        self._numbers = count()

    def read(self, source: Source, stream: Stream, progress: Progress) -> None:
        """Take a source in. Raises InputError with the place of the first fault."""
        for spilled in self._spilled(source, stream):
            self.spills.append(spilled.spill)
            self.degrees.add(spilled.ids, spilled.degrees)
            progress.advance(spilled.spill.bytes)

    def _path(self) -> Path:
        return self._scratch / f"{next(self._numbers):06d}.pairs"

    def _spilled(self, source: Source, stream: Stream) -> Iterator[Spilled]:
        pieces = cut(source, stream, self._piece_bytes)
        handed: deque[Piece] = deque()

        def jobs() -> Iterator[SpillJob]:
            for piece in pieces:
                handed.append(piece)
                yield SpillJob(piece, self._path(), self._directed)

        records = 0
        small = source.size is not None and source.size < _INLINE_BYTES
        try:
            for done in run(spill, jobs(), self._workers(small)):
                handed.popleft()
                records += done.spill.records
                yield done
            return
        except RefusedRecord as error:
            unit = "line" if source.format == "ndjson" else "record"
            raise _refusal(source, f"{unit} {records + error.index + 1}: {error.reason}") from error
        except Malformed as error:
            fault = error
        yield from self._streamed(source, records, fault, handed[0].start, chain(list(handed), pieces))

    def _streamed(
        self, source: Source, records: int, fault: Malformed, start: int, pieces: Iterator[Piece]
    ) -> Iterator[Spilled]:
        """The rest of a JSON array from byte `start` on, which may be no flat records, or no JSON: ijson decides."""
        fed = told = 0

        def blocks() -> Iterator[bytes]:
            nonlocal fed
            joint = b"["
            for piece in pieces:
                yield joint + piece.read()
                fed += piece.stop - piece.start
                joint = b","

        try:
            for pairs in stream_array(blocks(), source.shape):
                yield spill_pairs([pairs], self._path(), self._directed, len(pairs.scores), fed - told)
                records += len(pairs.scores)
                told = fed
        except RefusedRecord as error:
            raise _refusal(source, f"record {records + error.index + 1}: {error.reason}") from error
        except Malformed as error:
            exact = error.offset <= fault.offset + 1 <= error.offset + _BLOCK
            place = f"byte {start + fault.offset}" if exact else f"after byte {start + error.offset}"
            raise _refusal(source, f"{place}, record {records + 1}: not valid JSON: {error.reason}") from error


def _refusal(source: Source, fault: str) -> InputError:
    return InputError(f"{source.name}: {fault}; nothing was published")


def read_pairs(
    paths: list[str],
    intake: Intake,
    format_: str | None,
    fields: tuple[str, ...] | None,
    ids: tuple[str, pa.Array] | None,
    progress: Progress,
) -> None:
    """Take all files in; `ids`: the items' ids that are known beforehand, with the file's name for messages."""
    streams: list[Stream] = []
    try:
        for path in paths:
            streams.append(Stream(path))
        sources = [recognise(path, stream, format_, fields) for path, stream in zip(paths, streams, strict=True)]
        where, integer = (
            (ids[0], pa.types.is_int64(ids[1].type)) if ids else (sources[0].name, sources[0].shape.integer)
        )
        for source in sources:
            if source.shape.integer != integer:
                kinds = ("integers", "text") if integer else ("text", "integers")
                raise InputError(f"{source.name}: its ids are {kinds[1]}, but those of {where} are {kinds[0]}")
        sizes = [source.size for source in sources]
        progress.phase("Reading", "B", None if None in sizes else sum(size or 0 for size in sizes))
        for source, stream in zip(sources, streams, strict=True):
            intake.read(source, stream, progress)
    finally:
        for stream in streams:
            stream.close()
    if not sum(spill.pairs for spill in intake.spills):
        raise InputError(f"{', '.join(source.name for source in sources)}: no pairs of two different items")
