"""The formats of pairs, a line each, and which of them a file has: by what was said, its name, or its first bytes."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from simshard.ingest.streams import COMPRESSED, STDIN, Stream
from simshard.shards.errors import InputError

if TYPE_CHECKING:
    from simshard.ingest.pair_sources import PairSource


@dataclass(frozen=True)
class PairFormat:
    """A format of pairs.

    name: what `--format` calls it; label: what messages call it; suffixes: of its files, before those of compression;
    recogniser: module:function, imported when it is needed, since the command line lists the formats at every start;
    magic: the first bytes of all its files; streamed: whether it is read from its start to its end, so that it can
    be compressed or come from stdin; begins: a pattern: text on stdin that begins like that is taken for it.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    recogniser: str
    magic: bytes | None = None
    streamed: bool = True
    begins: bytes | None = None

    def recognise(self, stream: Stream, fields: tuple[str, ...] | None) -> PairSource:
        """The source that such a file is. Raises InputError for what it cannot be.

        fields: the fields or columns of ids and score, if they were said.
        """
        function: Callable[..., PairSource] = resolve_name(f"simshard.ingest.{self.recogniser}")
        return function(stream, fields)


# Stdin is taken for the first that it begins like: NDJSON, and what comes after it, is anything else.
_LINES = (
    PairFormat("json", "JSON", (".json",), "json_pairs:recognise_array", begins=rb"\[[ \t\r\n]*[\[{\]]"),
    PairFormat("ndjson", "NDJSON", (".ndjson", ".jsonl"), "json_pairs:recognise_lines", begins=b""),
    PairFormat("parquet", "Parquet", (".parquet",), "parquet_pairs:recognise", b"PAR1", streamed=False),
)
FORMATS = {format_.name: format_ for format_ in _LINES}


def choose(stream: Stream, name: str | None) -> PairFormat:
    """The format of a pair file; `name`: what was said of it. Raises InputError where nothing tells, or bytes disagree.

    What cannot be sought in is opened only for a format that can be read like that.
    """
    if name is not None and name not in FORMATS:
        raise InputError(f"--format {name}: known formats are {listed('and')}")
    chosen = FORMATS[name] if name is not None else _of_suffix(stream.path)
    if chosen is not None and not chosen.streamed and stream.size is None:
        return chosen
    found = next((each for each in _LINES if each.magic and stream.head.startswith(each.magic)), None)
    if found is not None and found is not chosen:
        if chosen is None and stream.path == STDIN and found.streamed:
            return found
        named = found.streamed or stream.path != STDIN
        hint = f"say --format {found.name}" if named else "write it to a file, and name that"
        raise InputError(f"{stream.name}: it is {found.label} by its first bytes; {hint}")
    if (chosen is None or chosen.streamed) and not stream.text:
        raise InputError(f"{stream.name}: empty; there are no pairs to build from")
    if chosen is None and stream.path == STDIN:
        chosen = next(each for each in _LINES if each.begins is not None and re.match(each.begins, stream.text))
    if chosen is None:
        raise InputError(f"{stream.name}: the format is not told by the name; say --format {listed('or')}")
    return chosen


def _of_suffix(path: str) -> PairFormat | None:
    for suffix in COMPRESSED:
        path = path.removesuffix(suffix)
    return next((each for each in _LINES if path.lower().endswith(each.suffixes)), None)


def listed(conjunction: str) -> str:
    """The names of all formats, in a sentence."""
    *names, last = FORMATS
    return f"{', '.join(names)} {conjunction} {last}"
