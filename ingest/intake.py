"""Pair files -> spills: pieces parsed in parallel; from a piece that is not flat records on, a stream."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, count, groupby
from pathlib import Path

import pyarrow as pa

from simshard.ingest.json_pairs import Piece, Source, cut, recognise
from simshard.ingest.pair_records import Malformed, RefusedRecord, lone_surrogate, stream_array
from simshard.ingest.parquet_pairs import ParquetSource, is_parquet, recognise_parquet
from simshard.ingest.shuffle import (
    Degrees,
    GroupsJob,
    Spill,
    Spilled,
    SpillJob,
    spill,
    spill_groups,
    spill_pairs,
    spills_of,
)
from simshard.ingest.streams import Stream
from simshard.ingest.tasks import Workers
from simshard.shards.errors import InputError
from simshard.shards.progress import Progress

_INLINE_BYTES = 8 << 20
_BLOCK = 1 << 16
_TOKEN = 256  # ijson sees a misplaced token at its end
_SPILLS_AT_ONCE = 64


class Intake:
    """The spills of all pair files in the order of the input, with their distinct ids and degrees."""

    def __init__(self, scratch: Path, directed: bool, piece_bytes: int, workers: Workers) -> None:
        self.spills: list[Spill] = []
        self.degrees = Degrees()
        self._scratch, self._directed, self._piece_bytes, self._workers = scratch, directed, piece_bytes, workers
        self._numbers = count()

    def read(self, source: Source | ParquetSource, stream: Stream | None, progress: Progress) -> None:
        """Take a source in. Raises InputError with the place of the first fault."""
        pieces = self._row_groups(source) if isinstance(source, ParquetSource) else self._spilled(source, stream)
        for spilled in pieces:
            self.spills.append(spilled.spill)
            self.degrees.add(spilled.ids, spilled.degrees)
            progress.advance(spilled.spill.bytes)

    def _path(self) -> Path:
        return self._scratch / f"{next(self._numbers):06d}.pairs"

    def _row_groups(self, source: ParquetSource) -> Iterator[Spilled]:
        """The spills of a Parquet file; row groups so large that their spills would be many at once are read here."""
        records = max(self._piece_bytes // source.record_bytes, 1)
        jobs = (GroupsJob(groups, self._path(), self._directed, records) for groups in source.cut(records))
        try:
            for large, some in groupby(jobs, key=lambda job: job.groups.records > _SPILLS_AT_ONCE * records):
                if large:
                    for job in some:
                        yield from spills_of(job)
                else:
                    for done in self._workers.run(spill_groups, some, source.size < _INLINE_BYTES):
                        yield from done
        except RefusedRecord as error:
            raise _refusal(source, f"record {error.index + 1}: {error.reason}") from error

    def _spilled(self, source: Source, stream: Stream | None) -> Iterator[Spilled]:
        pieces = cut(source, stream, self._piece_bytes)
        handed: deque[Piece] = deque()

        def jobs() -> Iterator[SpillJob]:
            for piece in pieces:
                handed.append(piece)
                yield SpillJob(piece, self._path(), self._directed)

        records = 0
        small = source.size is not None and source.size < _INLINE_BYTES
        try:
            for done in self._workers.run(spill, jobs(), small):
                handed.popleft()
                records += done.spill.records
                yield done
            return
        except RefusedRecord as error:
            unit = "line" if source.format == "ndjson" else "record"
            raise _refusal(source, f"{unit} {records + error.index + 1}: {error.reason}") from error
        except Malformed as error:
            suspect = error.offset
        yield from self._streamed(source, records, suspect, chain(list(handed), pieces))

    def _streamed(self, source: Source, records: int, suspect: int, pieces: Iterator[Piece]) -> Iterator[Spilled]:
        """The rest of a JSON array, which may be no flat records, or no JSON: ijson decides.

        suspect: where in the first piece the typed decoder stumbled; if ijson does so at that token, there it is.
        """
        first = next(pieces)
        fed = told = 0

        def blocks() -> Iterator[bytes]:
            nonlocal fed
            for piece, block in _document(chain((first,), pieces)):
                surrogate = lone_surrogate(block)
                if surrogate is not None:
                    place = f"byte {piece.start + surrogate - 1}"
                    raise _refusal(source, f"{place}: half of a surrogate pair is escaped, which is no text")
                yield block
                fed += piece.stop - piece.start

        try:
            for pairs in stream_array(blocks(), source.shape):
                yield spill_pairs([pairs], self._path(), self._directed, len(pairs.scores), fed - told)
                told = fed
        except RefusedRecord as error:
            raise _refusal(source, f"record {records + error.index + 1}: {error.reason}") from error
        except Malformed as error:
            exact = _locate(source, first, error)
            fault = exact or error
            offset = max(fault.offset - 1, 0)
            offset = suspect if suspect <= offset <= suspect + _TOKEN else offset
            place = f"byte {first.start + offset}, record {records + fault.records + 1}"
            after = "" if exact else "after "
            raise _refusal(source, f"{after}{place}: not valid JSON: {fault.reason}") from error


def _document(pieces: Iterable[Piece]) -> Iterator[tuple[Piece, bytes]]:
    """The text of pieces that follow each other as one array again, byte for byte as long as in the file."""
    joint = b"["
    stop = 0
    for piece in pieces:
        if stop:
            joint = b",".ljust(piece.start - stop)
        yield piece, joint + piece.read()
        stop = piece.stop


def _locate(source: Source, first: Piece, fault: Malformed) -> Malformed | None:
    """The very byte and record of a fault, found in a second pass; None where the text is not there any more."""
    if source.size is not None:
        again: Iterable[Piece] = cut(replace(source, start=first.start), None, first.stop - first.start)
    elif fault.offset + _BLOCK < first.stop - first.start or first.last:
        again = (first,)
    else:
        return None
    try:
        for _ in stream_array((block for _, block in _document(again)), source.shape, fault.offset):
            pass
    except Malformed as exact:
        return exact
    return None


def _refusal(source: Source | ParquetSource, fault: str) -> InputError:
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
    streams: list[Stream | None] = []
    try:
        for path in paths:
            streams.append(None if is_parquet(path, format_) else Stream(path))
        sources = [
            recognise(path, stream, format_, fields) if stream else recognise_parquet(path, fields)
            for path, stream in zip(paths, streams, strict=True)
        ]
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
            if stream is not None:
                stream.close()
    if not sum(spill.pairs for spill in intake.spills):
        raise InputError(f"{', '.join(source.name for source in sources)}: no pairs of two different items")
