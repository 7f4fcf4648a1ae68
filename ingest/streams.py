"""The bytes of a pair file or stdin, decompressed, from the first on."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import Any

import pyarrow as pa

from simshard.shards.errors import InputError

COMPRESSED = (".gz", ".bz2", ".zst")
STDIN = "-"
BLANK = b" \t\r\n"
BOM = b"\xef\xbb\xbf"
_HEAD = 1 << 20


def source_name(path: str) -> str:
    """A pair file as messages call it."""
    return "stdin" if path == STDIN else path


class Stream:
    """The decompressed bytes of a file or stdin, opened when they are first asked for.

    size: bytes of the file; None where they can only be read once, in order, or are compressed.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.name = source_name(path)
        self.size: int | None = None
        if path != STDIN and not path.endswith(COMPRESSED) and os.path.isfile(path):
            self.size = os.stat(path).st_size
        self._file: Any = None
        self._unread: bytes | None = None

    @cached_property
    def head(self) -> bytes:
        """The first bytes, up to 1 MiB, still to be read. Raises InputError for a file that cannot be read."""
        head = b""
        try:
            if self.path == STDIN:
                self._file = sys.stdin.buffer
            elif self.path.endswith(COMPRESSED):
                self._file = pa.input_stream(self.path, compression="detect")
            else:
                self._file = open(self.path, "rb")
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error})") from error
        while len(head) < _HEAD and (data := self._next(_HEAD - len(head))):
            head += data
        return head

    @property
    def text(self) -> bytes:
        """The head of a text file without what may stand before the first record: a byte-order mark, blanks."""
        return self.head.removeprefix(BOM).lstrip(BLANK)

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end. Raises InputError for damaged compressed data."""
        if self._unread is None:
            self._unread = self.head
        if self._unread:
            data, self._unread = self._unread[:size], self._unread[size:]
            return data
        return self._next(size)

    def _next(self, size: int) -> bytes:
        try:
            return bytes(self._file.read(size))
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.name}: cannot be read to its end ({error})") from error

    def close(self) -> None:
        """Close the file; stdin stays open."""
        if self._file is not None and self._file is not sys.stdin.buffer:
            self._file.close()
