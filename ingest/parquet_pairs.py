"""Parquet files of pairs: which columns hold them, and row groups -> arrays, batch by batch."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simshard.ingest.pair_records import KNOWN_TEXT, Pairs, RefusedRecord, Shape, check_record, describe, match_fields
from simshard.ingest.pair_sources import PairSource
from simshard.ingest.spills import Portion, Spilled, Spiller
from simshard.ingest.streams import COMPRESSED, STDIN, Stream
from simshard.shards.errors import InputError

_BATCH = 1 << 16
_HEAD = 1000
_LEAST_BYTES = 20  # of a record: two ids of 64 bits, and a score
_READ = 1 << 20
_LARGEST = 2**63 - 1
_NUMBERS = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_null)


@dataclass(frozen=True)
class ParquetSource:
    """A Parquet file whose columns are known.

    groups: records of each row group; size: bytes of the file; record_bytes: what a record takes in memory, about.
    """

    path: str
    shape: Shape
    groups: tuple[int, ...]
    size: int
    record_bytes: int

    @property
    def name(self) -> str:
        """The file as messages call it."""
        return self.path

    def read(self, spiller: Spiller) -> Iterator[Spilled]:
        """The spills of all its pairs, in order. Raises RefusedRecord and InputError."""
        return spiller.run(self._cut(max(spiller.piece_bytes // self.record_bytes, 1)), self.size)

    def _cut(self, records: int) -> Iterator[RowGroups]:
        """The file's row groups in order, each alone or several together until there are so many records."""
        first = count = 0
        for group, size in enumerate(self.groups, 1):
            count += size
            if count >= records or (count and group == len(self.groups)):
                yield RowGroups(self, first, group, count, records)
                first, count = group, 0


@dataclass(frozen=True)
class RowGroups:
    """Row groups `first` to `stop` of a source: `records` records, of which a spill takes `wanted` or a few more."""

    source: ParquetSource
    first: int
    stop: int
    records: int
    wanted: int

    @property
    def spills(self) -> int:
        """How many portions there are, or a few more."""
        return -(-self.records // self.wanted)

    def portions(self) -> Iterator[Portion]:
        """The pairs, in order. Raises RefusedRecord with the index from the first row group's start, and InputError."""
        parts: list[Pairs] = []
        start = waiting = 0
        for batch in _batches(self, min(_BATCH, self.wanted)):
            parts.append(_pairs(batch, self.source.shape, start))
            start += len(batch)
            waiting += len(batch)
            if waiting >= self.wanted:
                yield self._portion(parts, waiting)
                parts, waiting = [], 0
        if parts:
            yield self._portion(parts, waiting)

    def _portion(self, parts: list[Pairs], records: int) -> Portion:
        return Portion(parts, records, self.source.size * records // sum(self.source.groups))


def recognise(stream: Stream, fields: tuple[str, ...] | None) -> PairSource:
    """What the columns of a pair file say. Raises InputError for a file that holds no pairs."""
    path = stream.path
    if path == STDIN:
        raise InputError(f"{stream.name}: Parquet is read from its end; write it to a file, and name that")
    if path.endswith(COMPRESSED):
        raise InputError(f"{path}: Parquet is compressed inside; unpack the file around it")
    try:
        size = os.stat(path).st_size
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    try:
        with pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: not a whole Parquet file ({describe(error)})") from error
    if not metadata.num_rows:
        raise InputError(f"{path}: empty; there are no pairs to build from")
    names = _columns(path, schema.names, fields)
    shape = Shape(names, _check_types(path, schema, names))
    groups = tuple(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    source = ParquetSource(path, shape, groups, size, _LEAST_BYTES)
    with closing(_batches(RowGroups(source, 0, len(groups), sum(groups), _HEAD), _HEAD)) as batches:
        head = next(batches)
    ids = sum(_plain(_column(head, name)).nbytes for name in names[:2])
    return ParquetSource(path, shape, groups, size, max(ids // len(head), _LEAST_BYTES))


def _columns(path: str, there: list[str], given: tuple[str, ...] | None) -> tuple[str, str, str]:
    names = match_fields(there, given)
    if names is None:
        listed = ", ".join(there) or "none"
        if given:
            missing = ", ".join(repr(name) for name in given if name not in there)
            raise InputError(f"{path}: no column {missing}; its columns: {listed}")
        raise InputError(
            f"{path}: the columns are {listed}, which are none of those known ({KNOWN_TEXT}); "
            "say which hold the pair with --fields A,B,SCORE"
        )
    for name in names:
        if there.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}; rename one")
    return names


def _check_types(path: str, schema: pa.Schema, names: tuple[str, str, str]) -> bool:
    """Whether ids are integers, not text. Raises InputError for other types."""
    held = {}
    for name in names[:2]:
        kind = schema.field(name).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_integer(kind):
            held[name] = "integers"
        elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
            held[name] = "text"
        elif not pa.types.is_null(kind):  # a column without any value has its first record refused
            raise InputError(f"{path}: column {name!r} has type {kind}; ids are integers or text")
    kind = schema.field(names[2]).type
    if not any(test(kind) for test in _NUMBERS):
        raise InputError(f"{path}: column {names[2]!r} has type {kind}; scores are numbers")
    if len(set(held.values())) > 1:
        one, other = (f"{name!r} holds {what}" for name, what in held.items())
        raise InputError(f"{path}: column {one}, but {other}; the ids of a build are alike")
    return "integers" in held.values()


def _batches(groups: RowGroups, size: int) -> Generator[pa.RecordBatch]:
    """The columns of the pairs. However large a row group is, little of it is in memory: it is read as a stream."""
    source = groups.source
    assert source.shape.fields is not None
    try:
        with pq.ParquetFile(source.path, buffer_size=_READ, page_checksum_verification=True) as file:
            wanted = list(range(groups.first, groups.stop)), list(dict.fromkeys(source.shape.fields))
            yield from file.iter_batches(size, *wanted, use_threads=False)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{source.name}: cannot be read to its end ({describe(error)})") from error


def _column(batch: pa.RecordBatch, name: str) -> pa.Array:
    return batch.column(batch.schema.get_field_index(name))


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _pairs(batch: pa.RecordBatch, shape: Shape, start: int) -> Pairs:
    """A batch as arrays, after `start` other records. Raises RefusedRecord for the first that is none."""
    assert shape.fields is not None
    a, b, score = (_plain(_column(batch, name)) for name in shape.fields)
    numbers = pc.cast(score, pa.float64(), safe=False)
    with np.errstate(over="ignore"):
        scores = numbers.to_numpy(zero_copy_only=False).astype(np.float32)
    bad = ~np.isfinite(scores) | _refused(a, shape.integer) | _refused(b, shape.integer)
    if bad.any():
        index = int(np.argmax(bad))
        try:
            values = [column[index].as_py() for column in (a, b, numbers)]
            check_record(dict(zip(shape.fields, values, strict=True)), shape)
        except UnicodeDecodeError as error:
            raise RefusedRecord(start + index, "an id is not UTF-8 text") from error
        except ValueError as error:
            raise RefusedRecord(start + index, str(error)) from error
    kind = pa.int64() if shape.integer else pa.string()
    return Pairs(a.cast(kind), b.cast(kind), scores + np.float32(0.0))


def _refused(ids: pa.Array, integer: bool) -> NDArray[np.bool_]:
    """Which values are no ids."""
    refused: NDArray[np.bool_] = ids.is_null().to_numpy(zero_copy_only=False)
    if refused.all():
        return refused
    if pa.types.is_uint64(ids.type):
        refused |= _true(pc.greater(ids, pa.scalar(_LARGEST, pa.uint64())))
    if not integer:
        refused |= _true(pc.equal(ids, ""))
        try:
            ids.validate(full=True)
        except pa.ArrowInvalid:  # not all of it is UTF-8, which Parquet does not promise
            refused |= np.array([not _is_text(id_) for id_ in ids])
    return refused


def _true(column: pa.BooleanArray) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return found


def _is_text(value: pa.Scalar) -> bool:
    try:
        value.as_py()
    except UnicodeDecodeError:
        return False
    return True
