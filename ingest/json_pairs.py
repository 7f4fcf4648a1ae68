"""JSON files of pairs, arrays and NDJSON: their shape, and their records, parsed piece by piece.

Flat documents are cut into byte ranges that are parsed in parallel. A cut is a guess, `}` before `,` before `{`, that
can fall inside a string or a nested value; but a piece that starts at a true boundary and parses as whole records ends
at one too, so pieces accepted in order are exactly the document's records. From the first piece of an array that does
not parse, ijson streams the rest.
"""

from __future__ import annotations

import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import ijson
import msgspec

from simshard.ingest.json_records import Malformed, lone_surrogate, parse_array, parse_lines, stream_array
from simshard.ingest.pair_records import KNOWN_TEXT, Pairs, RefusedRecord, Shape, check_record, describe, match_fields
from simshard.ingest.pair_sources import PairSource
from simshard.ingest.spills import Portion, Spilled, Spiller
from simshard.ingest.streams import BLANK, BOM, Stream
from simshard.ingest.text_pieces import Text, cut
from simshard.shards.errors import InputError

_KNOWN_SHAPES = (
    'a JSON array of objects [{"a":1,"b":2,"score":0.5},...], a JSON array of triples [[1,2,0.5],...], '
    "or NDJSON with one such object or triple a line"
)
_PARSED_AT_ONCE = 2 << 20
_BLOCK = 1 << 16
_TOKEN = 256  # ijson sees a misplaced token at its end
_NEWLINE = re.compile(rb"\n")
_BETWEEN_OBJECTS = re.compile(rb"(?<=\})\s*,\s*(?=\{)")
_BETWEEN_TRIPLES = re.compile(rb"(?<=\])\s*,\s*(?=\[)")


def recognise_array(stream: Stream, fields: tuple[str, ...] | None) -> PairSource:
    """What the head says of a JSON array. Raises InputError for one of no known shape."""
    text = stream.text
    inside = text[1:].lstrip(BLANK)
    if text[:1] == b"[" and inside[:1] == b"]":
        raise InputError(f"{stream.name}: an empty array; there are no pairs to build from")
    if text[:1] != b"[" or inside[:1] not in (b"{", b"["):
        hint = "; for one JSON value a line, say --format ndjson" if text[:1] in (b"{", b"[") else ""
        raise InputError(f"{stream.name}: unknown shape, it starts with {_show(text)}; expected {_KNOWN_SHAPES}{hint}")
    shape = _shape(stream.name, _first_item(stream.name, text), fields)
    return JsonSource(stream, False, shape, len(stream.head) - len(inside))


def recognise_lines(stream: Stream, fields: tuple[str, ...] | None) -> PairSource:
    """What the head says of NDJSON. Raises InputError for lines of no known shape."""
    shape = _shape(stream.name, _first_line(stream.name, stream.text), fields)
    return JsonSource(stream, True, shape, len(stream.head) - len(stream.head.removeprefix(BOM)))


def _shape(name: str, first: Any, fields: tuple[str, ...] | None) -> Shape:
    """That of all records, given the first one."""
    names = None if isinstance(first, list) else _fields(name, first, fields)
    id_ = first.get(names[0]) if names else next(iter(first), None)
    shape = Shape(names, not isinstance(id_, str))
    try:
        check_record(first, shape)
    except ValueError as error:
        raise InputError(f"{name}: record 1: {error}") from error
    return shape


def _show(text: bytes) -> str:
    return repr(text[:60].decode("utf-8", "replace"))


def _first_item(name: str, text: bytes) -> Any:
    try:
        return next(ijson.items(io.BytesIO(text), "item"))
    except (ijson.JSONError, UnicodeDecodeError) as error:
        raise InputError(
            f"{name}: record 1 is not valid JSON ({describe(error)}); it starts with {_show(text)}"
        ) from error


def _first_line(name: str, text: bytes) -> Any:
    try:
        first = msgspec.json.decode(text.split(b"\n", 1)[0])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{name}: line 1 is not valid JSON ({error}); it starts with {_show(text)}") from error
    if not isinstance(first, dict | list):
        raise InputError(f"{name}: unknown shape, it starts with {_show(text)}; expected {_KNOWN_SHAPES}")
    return first


def _fields(name: str, first: dict[str, Any], given: tuple[str, ...] | None) -> tuple[str, str, str]:
    names = match_fields(first, given)
    if names is not None:
        return names
    there = ", ".join(first) or "none"
    if given:
        missing = [field for field in given if field not in first]
        raise InputError(f"{name}: record 1 has no field {', '.join(map(repr, missing))}; its fields: {there}")
    raise InputError(
        f"{name}: the fields of record 1 are {there}, which are none of those known ({KNOWN_TEXT}); "
        "say which hold the pair with --fields A,B,SCORE"
    )


@dataclass(frozen=True)
class JsonPiece:
    """Records of an array, which has no opening bracket here and the closing one only if it is the last; or lines."""

    text: Text
    lines: bool
    shape: Shape
    spills: int = 1

    def portions(self) -> Iterator[Portion]:
        """One. Raises RefusedRecord and Malformed with places counted from the piece's start."""
        parsed = list(self._parse())
        records = sum(count for _, count in parsed)
        yield Portion([pairs for pairs, _ in parsed], records, self.text.stop - self.text.start)

    def _parse(self) -> Iterator[tuple[Pairs, int]]:
        """The records, a few MB of text at a time, each with the number of records (NDJSON: lines) there."""
        text = self.text.read()
        boundary = _boundary(self.lines, self.shape)
        records = start = 0
        while start < len(text):
            found = boundary.search(text, start + _PARSED_AT_ONCE) if len(text) > start + _PARSED_AT_ONCE else None
            part = text[start : found.start() if found else len(text)]
            try:
                if self.lines:
                    pairs = parse_lines(part, self.shape)
                    count = part.count(b"\n") + 1
                else:
                    pairs = parse_array(part, self.text.last and found is None, self.shape)
                    count = len(pairs.scores)
            except RefusedRecord as error:
                raise RefusedRecord(records + error.index, error.reason, error.unit) from error
            except Malformed as error:
                raise Malformed(start + error.offset, error.reason, records) from error
            yield pairs, count
            records += count
            start = found.end() if found else len(text)


def _boundary(lines: bool, shape: Shape) -> re.Pattern[bytes]:
    """What stands between two records."""
    if lines:
        return _NEWLINE
    return _BETWEEN_OBJECTS if shape.fields else _BETWEEN_TRIPLES


@dataclass(frozen=True)
class JsonSource:
    """A JSON array or NDJSON whose shape is known; `start` is the byte offset of its first record."""

    stream: Stream
    lines: bool
    shape: Shape
    start: int

    @property
    def name(self) -> str:
        """The file as messages call it."""
        return self.stream.name

    @property
    def size(self) -> int | None:
        """Bytes of the file; None where they are not known beforehand."""
        return self.stream.size

    def read(self, spiller: Spiller) -> Iterator[Spilled]:
        """The spills of all its pairs, in order. Raises RefusedRecord and InputError."""
        texts = self._cut(self.start, spiller.piece_bytes)
        handed: deque[Text] = deque()

        def pieces() -> Iterator[JsonPiece]:
            for text in texts:
                handed.append(text)
                yield JsonPiece(text, self.lines, self.shape)

        records = 0
        try:
            for spilled in spiller.run(pieces(), self.size):
                handed.popleft()
                records += spilled.spill.records
                yield spilled
            return
        except Malformed as error:
            suspect = error.offset
        for portion in self._streamed(records, suspect, chain(list(handed), texts)):
            yield spiller.write(portion)

    def _cut(self, start: int, size: int) -> Iterator[Text]:
        return cut(self.stream, start, _boundary(self.lines, self.shape), size)

    def _streamed(self, records: int, suspect: int, texts: Iterator[Text]) -> Iterator[Portion]:
        """The rest of an array, which may be no flat records, or no JSON: ijson decides.

        suspect: where in the first text the typed decoder stumbled; if ijson does so at that token, there it is.
        """
        first = next(texts)
        fed = told = 0

        def blocks() -> Iterator[bytes]:
            nonlocal fed
            for text, block in _document(chain((first,), texts)):
                surrogate = lone_surrogate(block)
                if surrogate is not None:
                    place = f"byte {text.start + surrogate - 1}"
                    raise self._fault(f"{place}: half of a surrogate pair is escaped, which is no text")
                yield block
                fed += text.stop - text.start

        try:
            for pairs in stream_array(blocks(), self.shape):
                yield Portion([pairs], len(pairs.scores), fed - told)
                told = fed
        except RefusedRecord as error:
            raise RefusedRecord(records + error.index, error.reason, error.unit) from error
        except Malformed as error:
            exact = self._locate(first, error)
            fault = exact or error
            offset = max(fault.offset - 1, 0)
            offset = suspect if suspect <= offset <= suspect + _TOKEN else offset
            place = f"byte {first.start + offset}, record {records + fault.records + 1}"
            after = "" if exact else "after "
            raise self._fault(f"{after}{place}: not valid JSON: {fault.reason}") from error

    def _locate(self, first: Text, fault: Malformed) -> Malformed | None:
        """The very byte and record of a fault, found in a second pass; None where the text is not there any more."""
        if self.size is not None:
            again = self._cut(first.start, first.stop - first.start)
        elif fault.offset + _BLOCK < first.stop - first.start or first.last:
            again = iter((first,))
        else:
            return None
        try:
            for _ in stream_array((block for _, block in _document(again)), self.shape, fault.offset):
                pass
        except Malformed as exact:
            return exact
        return None

    def _fault(self, fault: str) -> InputError:
        return InputError(f"{self.name}: {fault}; nothing was published")


def _document(texts: Iterable[Text]) -> Iterator[tuple[Text, bytes]]:
    """Texts that follow each other as one array again, byte for byte as long as in the file."""
    joint = b"["
    stop = 0
    for text in texts:
        if stop:
            joint = b",".ljust(text.start - stop)
        yield text, joint + text.read()
        stop = text.stop
