"""The text of a pair file, cut at what stands between records: ranges of a plain file, data of a stream otherwise."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from simshard.ingest.streams import Stream
from simshard.shards.errors import InputError

_WINDOW = 1 << 16
_LONGEST_RECORD = 16 << 20


@dataclass(frozen=True)
class Text:
    """Whole records: bytes `start` to `stop` of a file's decompressed content, given as `data` or read from `path`.

    `last` marks the end of the file. What stands between two texts belongs to neither.
    """

    path: str
    start: int
    stop: int
    last: bool
    data: bytes | None = None

    def read(self) -> bytes:
        """The bytes."""
        if self.data is not None:
            return self.data
        with open(self.path, "rb") as file:
            file.seek(self.start)
            return file.read(self.stop - self.start)


def cut(stream: Stream, start: int, boundary: re.Pattern[bytes], size: int) -> Iterator[Text]:
    """Texts of about `size` bytes, in order, from byte `start` on, where a record begins. Raises InputError.

    boundary: what stands between two records, as far as one can tell from a window.
    """
    if stream.size is not None:
        return _cut_file(stream.path, stream.size, start, boundary, size)
    return _cut_stream(stream, start, boundary, size)


def _cut_file(path: str, end: int, start: int, boundary: re.Pattern[bytes], size: int) -> Iterator[Text]:
    with open(path, "rb") as file:
        while start + size < end:
            found, window = None, _WINDOW
            while found is None and window <= _LONGEST_RECORD:
                file.seek(start + size)
                text = file.read(window)
                found = boundary.search(text)
                if found is None and len(text) < window:
                    break
                window *= 16
            else:
                if found is None:
                    raise _too_long(path, start + size)
            if found is None:
                break
            yield Text(path, start, start + size + found.start(), False)
            start += size + found.end()
    if start < end:  # no newline at the very end was taken for what stands between two records
        yield Text(path, start, end, True)


def _cut_stream(stream: Stream, start: int, boundary: re.Pattern[bytes], size: int) -> Iterator[Text]:
    stream.read(start)
    buffer = b""
    while True:
        found = None
        more = True
        while more and (found is None and len(buffer) <= size + _LONGEST_RECORD):
            data = stream.read(size)
            more = bool(data)
            buffer += data
            found = boundary.search(buffer, size)
        if found is None:
            if more:
                raise _too_long(stream.name, start + size)
            if buffer:
                yield Text(stream.path, start, start + len(buffer), True, buffer)
            return
        yield Text(stream.path, start, start + found.start(), False, buffer[: found.start()])
        start += found.end()
        buffer = buffer[found.end() :]


def _too_long(name: str, offset: int) -> InputError:
    return InputError(
        f"{name}: no record ends within {_LONGEST_RECORD >> 20} MiB after byte {offset}; "
        "records that long are not pairs"
    )
