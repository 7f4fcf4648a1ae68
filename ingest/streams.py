"""The bytes of a pair file or stdin, decompressed, from the first on."""

from __future__ import annotations

import sys
from typing import Any

import pyarrow as pa

from simshard.shards.errors import InputError

COMPRESSED = (".gz", ".bz2", ".zst")
STDIN = "-"
_HEAD = 1 << 20


def source_name(path: str) -> str:
    """A pair file as messages call it."""
    return "stdin" if path == STDIN else path


class Stream:
    """The decompressed bytes of a file or stdin, with `head`, the first of them, still to be read."""

    def __init__(self, path: str) -> None:
        self.name = source_name(path)
        self.head = b""
        try:
            if path == STDIN:
                self._file: Any = sys.stdin.buffer
            elif path.endswith(COMPRESSED):
                self._file = pa.input_stream(path, compression="detect")
            else:
                self._file = open(path, "rb")
        except OSError as error:
            raise InputError(f"{self.name}: cannot be read ({error.strerror or error})") from error
        while len(self.head) < _HEAD and (data := self._next(_HEAD - len(self.head))):
            self.head += data
        self._unread = self.head

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end. Raises InputError for damaged compressed data."""
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
        if self._file is not sys.stdin.buffer:
            self._file.close()
