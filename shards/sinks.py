"""Files that other systems read, Parquet, NDJSON or JSON: the format by the name; whole, or not there at all."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from simshard.shards.errors import StoreError
from simshard.shards.store import force

_KINDS = {".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson", ".json": "json"}
_CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Format:
    """What a file is: parquet, ndjson or json, and the latter two compressed by `codec` or not."""

    kind: str
    codec: str | None

    @property
    def separator(self) -> str:
        """What every record in text begins with; the first one is written without its first character."""
        return ",\n" if self.kind == "json" else "\n"


def format_of(path: Path) -> Format:
    """The format that a file has by its name. Raises StoreError, naming those that there are."""
    plain, last = os.path.splitext(path.name.lower())
    codec = _CODECS.get(last)
    kind = _KINDS.get(os.path.splitext(plain)[1] if codec else last)
    if kind is None or (codec and kind == "parquet"):
        raise StoreError(
            f"{path}: the format is not told by the name; let it end in .parquet, .ndjson or .json, "
            "or the latter two in .gz, .bz2 or .zst after that"
        )
    return Format(kind, codec)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file beside `path` that takes its place, forced to disk, if all goes well; else it is removed.

    Raises StoreError for a file that cannot be written, in the body too.
    """
    path = path.resolve()  # what a link names is replaced, not the link
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, "it is a folder")
        try:
            with open(temporary, "xb"):
                pass
            yield temporary
            force(temporary)
            os.replace(temporary, path)
            force(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        full = error.errno in _FULL
        hint = "make room or write elsewhere" if full else "name a file in a folder that can be written"
        reason = os.strerror(error.errno) if error.errno else error
        raise StoreError(f"{path}: cannot be written ({reason}); {hint}; nothing there has changed") from error


@contextmanager
def parquet_file(path: Path, schema: pa.Schema, dictionaries: list[str]) -> Iterator[Callable[[pa.Table], None]]:
    """A function that appends a table as a row group; dictionaries: columns whose values repeat."""
    with pa.OSFile(str(path), "wb") as file:
        writer = pq.ParquetWriter(
            file, schema, compression="zstd", use_dictionary=dictionaries, write_page_checksum=True
        )
        try:
            yield writer.write_table
            writer.close()
        finally:
            writer.is_open = False  # else it tries to end a file that cannot be written once more, and nobody listens


@contextmanager
def text_file(path: Path, format_: Format) -> Iterator[Callable[[Any], None]]:
    """A function that appends the text of records (bytes or a buffer), each after the format's separator."""
    first = True

    def write(records: Any) -> None:
        nonlocal first
        stream.write(memoryview(records)[1:] if first else records)
        first = False

    opening, closing = (b"[", b"\n]\n") if format_.kind == "json" else (b"", b"\n")
    with pa.OSFile(str(path), "wb") as file:
        stream = file if format_.codec is None else pa.CompressedOutputStream(file, format_.codec)
        try:
            stream.write(opening)
            yield write
            stream.write(b"" if first and format_.kind == "ndjson" else closing)
            stream.close()
        except BaseException:
            with suppress(OSError, pa.ArrowException):  # what it still held cannot be written either
                stream.close()
            raise
