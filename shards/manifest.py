"""What a snapshot consists of: row ranges, files, checksums."""

from __future__ import annotations

import functools
import os
import re
import secrets
from bisect import bisect_right
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from simshard.shards.errors import CorruptFile, StoreError

Encoding = Literal["dense", "sparse"]

FORMAT = 1
MANIFEST = "manifest.json"
ITEMS = "items.arrow"
TITLES = "titles.arrow"
PAYLOADS = "payloads.arrow"
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_FILE = re.compile(r"(items|titles|payloads|shard-\d{5})\.arrow")
_READ_SIZE = 4 << 20
_OPTIONAL = ("titles_file", "payloads_file")


@dataclass(frozen=True)
class FileInfo:
    """A file of a snapshot: name inside it, size in bytes, XXH3-128 (hex) of the whole file."""

    file: str
    bytes: int
    checksum: str


@dataclass(frozen=True)
class ShardInfo(FileInfo):
    """A shard's file; rows row_start <= row < row_stop; `entries` counts the stored directions.

    score_abs_min: the least magnitude of its scores beside zeros; 0.0 where it is not known.
    """

    row_start: int
    row_stop: int
    entries: int
    score_abs_min: float = 0.0


@dataclass(frozen=True)
class Manifest:
    """The contents of manifest.json; `pairs` counts unique pairs kept, `dropped` what was left out by reason.

    titles_file: the index for title search; None where no item has a title. payloads_file: the payloads as JSON; None
    where there are no attributes, or in a snapshot of an earlier version.
    """

    name: str
    created: str
    encoding: Encoding
    items: int
    pairs: int
    directed: bool
    score_abs_max: float
    batch_rows: int
    items_file: FileInfo
    shards: tuple[ShardInfo, ...]
    source: dict[str, Any]
    options: dict[str, Any]
    dropped: dict[str, int]
    titles_file: FileInfo | None = None
    payloads_file: FileInfo | None = None
    dtype: str = "float32"
    format: int = FORMAT

    def shard_of(self, rows: NDArray[np.uint32]) -> NDArray[np.intp]:
        """Index of the shard that owns each row; intp, shape of `rows`."""
        return np.searchsorted(self._starts, rows, side="right") - 1

    def owner(self, row: int) -> int:
        """Index of the shard that owns a row."""
        return bisect_right(self._starts_listed, row) - 1

    @functools.cached_property
    def _starts(self) -> NDArray[np.int64]:
        return np.array(self._starts_listed)

    @functools.cached_property
    def _starts_listed(self) -> list[int]:
        return [shard.row_start for shard in self.shards]

    @functools.cached_property
    def score_abs_min(self) -> float:
        """The least magnitude of any score beside zeros; 0.0 where it is not known."""
        return min(shard.score_abs_min for shard in self.shards)

    @property
    def total_bytes(self) -> int:
        """Size of all files but the manifest."""
        return sum(info.bytes for info in self.files)

    @property
    def files(self) -> tuple[FileInfo, ...]:
        """All files but the manifest."""
        return (*self.item_files, *self.shards)

    @property
    def item_files(self) -> tuple[FileInfo, ...]:
        """All files but the manifest and the shards."""
        return tuple(info for info in (self.items_file, self.titles_file, self.payloads_file) if info)

    def to_json(self) -> bytes:
        """The manifest as written to disk."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of the snapshot in `folder`. Raises StoreError or CorruptFile, naming the file."""
    path = folder / MANIFEST
    try:
        return parse_manifest(path.read_bytes(), folder.name, path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


def parse_manifest(text: bytes, name: str, place: object) -> Manifest:
    """The manifest of the snapshot of this name; place: where it is, for messages. Raises StoreError or CorruptFile."""
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CorruptFile(f"{place}: not JSON ({error})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        found = content.get("format") if isinstance(content, dict) else None
        raise StoreError(f"{place}: format {found!r} is unknown to this version, which reads format {FORMAT}")
    try:
        known = {field.name for field in fields(Manifest)}
        manifest = Manifest(
            **{key: value for key, value in content.items() if key in known}
            | {
                "items_file": FileInfo(**content["items_file"]),
                **{name: FileInfo(**content[name]) if content.get(name) else None for name in _OPTIONAL},
                "shards": tuple(_shard_of(shard) for shard in content["shards"]),
            }
        )
        _check(manifest)
    except (KeyError, TypeError, ValueError) as error:
        raise CorruptFile(f"{place}: not a valid manifest ({error})") from error
    if manifest.name != name:
        raise CorruptFile(f"{place}: says that it is snapshot {manifest.name}, not {name}")
    return manifest


def _shard_of(content: dict[str, Any]) -> ShardInfo:
    """What is known of it; a later version may say more."""
    known = {field.name for field in fields(ShardInfo)}
    return ShardInfo(**{key: value for key, value in content.items() if key in known})


def _check(manifest: Manifest) -> None:
    if manifest.encoding not in ("dense", "sparse") or manifest.dtype != "float32":
        raise ValueError(f"encoding {manifest.encoding!r} with dtype {manifest.dtype!r}")
    stop = 0
    for shard in manifest.shards:
        if shard.row_start != stop or shard.row_stop <= shard.row_start:
            raise ValueError(f"{shard.file}: rows do not continue at {stop}")
        stop = shard.row_stop
    if stop != manifest.items or manifest.batch_rows < 1:
        raise ValueError(f"shards end at row {stop} of {manifest.items}")
    for entry in manifest.files:
        if not _FILE.fullmatch(entry.file):
            raise ValueError(f"file name {entry.file!r}")
        if not re.fullmatch(r"[0-9a-f]{32}", entry.checksum):
            raise ValueError(f"{entry.file}: checksum missing")


def verify_file(folder: Path, info: FileInfo) -> None:
    """Return if the file's size and XXH3-128 are the manifest's; else raise CorruptFile with its name."""
    path = folder / info.file
    digest = xxhash.xxh3_128()
    try:
        with open(path, "rb", buffering=0) as file:
            size = os.fstat(file.fileno()).st_size
            if size != info.bytes:
                raise CorruptFile(f"{path}: {size} bytes, but the manifest says {info.bytes}; rebuild or roll back")
            buffer = bytearray(_READ_SIZE)
            while count := file.readinto(buffer):
                digest.update(memoryview(buffer)[:count])
    except OSError as error:
        raise CorruptFile(f"{path}: cannot be read ({error.strerror}); rebuild or roll back") from error
    if digest.hexdigest() != info.checksum:
        raise CorruptFile(f"{path}: checksum differs from the manifest; the file is damaged: rebuild or roll back")


def write_batch(path: Path, batch: pa.RecordBatch) -> FileInfo:
    """Write an Arrow file of one record batch, forced to disk; its name, size and checksum."""
    sink = HashedFile(path)
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), batch.schema) as writer:
        writer.write_batch(batch)
    sink.close()
    return sink.info()


class HashedFile:
    """A new file for sequential writing that knows its XXH3-128 when it is closed, fsynced."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "wb", buffering=0)
        self._digest = xxhash.xxh3_128()
        self._bytes = 0
        self.closed = False

    def write(self, data: Any) -> int:
        """Append a buffer; the number of bytes written, which is all of them."""
        view = memoryview(data).cast("B")
        self._digest.update(view)
        written = 0
        while written < len(view):
            written += self._file.write(view[written:])
        self._bytes += written
        return written

    def flush(self) -> None:
        """Nothing is buffered."""

    def close(self) -> None:
        """Force the file to disk and close it."""
        if not self.closed:
            os.fsync(self._file.fileno())
            self._file.close()
            self.closed = True

    def info(self) -> FileInfo:
        """Name, size and checksum of what was written."""
        return FileInfo(self.path.name, self._bytes, self._digest.hexdigest())


def made_at(name: str) -> datetime:
    """When a snapshot was begun, by its name; to the second."""
    return datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


def name_after(now: datetime, latest: str | None) -> str:
    """A name for a snapshot of this time, or of the microsecond after the latest one if the clock was set back.

    Names are in the order of time: seconds, microseconds, then a random digit.
    """
    if latest is not None:
        now = max(now, made_at(latest) + timedelta(microseconds=int(latest[17:22], 16) + 1))
    return f"{now:%Y%m%dT%H%M%SZ}-{now.microsecond:05x}{secrets.token_hex(1)[0]}"
