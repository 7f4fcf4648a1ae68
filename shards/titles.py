"""Title search: titles.arrow, the index that a build writes and a server maps.

One record batch of one row, a list in each column: `words`, the distinct words of all titles in the order of their
bytes, with `rows`, the ascending rows of the titles that have word i at `offsets[i]:offsets[i+1]`; `titles` in order,
with the row of each in `order`; and `lengths`, the length of each row's title, 0 where it has none. All as `plain`
makes them. Nothing of it is copied into the memory of a process.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from simshard.shards.errors import CorruptFile
from simshard.shards.manifest import TITLES, FileInfo, write_batch

_LETTERS = str.maketrans({"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ı": "i"})
_APOSTROPHES = re.compile("['’]")
_WORDS = re.compile(r"[^\W_]+")
_LONGEST = 2**16 - 1


def plain(text: str) -> str:
    """A text as it is compared: case folded, without accents and apostrophes, its words parted by one space each."""
    text = text.casefold()
    if not text.isascii():
        parts = unicodedata.normalize("NFKD", text)
        text = (
            "".join(letter for letter in parts if unicodedata.category(letter)[0] != "M").casefold().translate(_LETTERS)
        )
    return " ".join(_WORDS.findall(_APOSTROPHES.sub("", text)))


def write_titles(folder: Path, titles: pa.Array | None) -> FileInfo | None:
    """Write titles.arrow for titles (N,), strings in row order; None where there are none."""
    if titles is None or titles.null_count == len(titles):
        return None
    texts = pa.array((None if title is None else plain(title) for title in titles.to_pylist()), pa.string())
    lengths = np.minimum(pc.fill_null(pc.utf8_length(texts), 0).to_numpy(), _LONGEST).astype(np.uint16)
    order = pc.sort_indices(texts).to_numpy().astype(np.uint32)  # nulls last
    order = order[: len(texts) - texts.null_count]

    lists = pc.split_pattern(texts, " ")
    encoded = lists.flatten().dictionary_encode()
    ranked = pc.sort_indices(encoded.dictionary).to_numpy()
    rank = np.empty(len(ranked), dtype=np.int64)
    rank[ranked] = np.arange(len(ranked))
    keys = rank[encoded.indices.to_numpy()] << 32 | pc.list_parent_indices(lists).to_numpy()
    keys = np.unique(keys)
    columns = {
        "words": encoded.dictionary.take(ranked),
        "offsets": pa.array(np.searchsorted(keys >> 32, np.arange(len(ranked) + 1))),
        "rows": pa.array((keys & 0xFFFFFFFF).astype(np.uint32)),
        "titles": texts.take(pa.array(order)),
        "order": pa.array(order),
        "lengths": pa.array(lengths),
    }
    lists = {name: pa.LargeListArray.from_arrays([0, len(values)], values) for name, values in columns.items()}
    return write_batch(folder / TITLES, pa.record_batch(lists))


class Found(NamedTuple):
    """Rows of the best titles, best first, uint32, and how many there are in all."""

    rows: NDArray[np.uint32]
    total: int


class Titles:
    """The index of a snapshot's titles, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        path = folder / TITLES
        try:
            batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
            columns = {name: batch.column(name).values for name in batch.schema.names}
            self._words, self._titles = columns["words"], columns["titles"]
            self._offsets, self._rows = columns["offsets"].to_numpy(), columns["rows"].to_numpy()
            self._order, self._lengths = columns["order"].to_numpy(), columns["lengths"].to_numpy()
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise CorruptFile(f"{path}: not an index of titles ({error})") from error

    def search(self, text: str, limit: int, first: int | None = None, among: NDArray[np.bool_] | None = None) -> Found:
        """Titles in which every word of `text` begins a word; best first, and before all of them the row `first`.

        among: bool (N,), the rows that can be found; None: all.

        The title that is the text comes first, then those that begin with it as whole words, then those that begin with
        it, then the others; the shorter before the longer, ties by ascending row.
        """
        query = plain(text)
        there = np.full(len(self._lengths), bool(query))
        for word in query.split():
            start, stop = _range(self._words, word)
            marks = np.zeros(len(self._lengths), dtype=np.bool_)
            marks[self._rows[self._offsets[start] : self._offsets[stop]]] = True
            there &= marks
        if first is not None:
            there[first] = True
        if among is not None:
            there &= among
        rows = np.flatnonzero(there)
        rank = np.full(len(self._lengths), 2, dtype=np.int8)
        rank[self._order[slice(*_range(self._titles, query))]] = 1
        rank[self._order[slice(*_range(self._titles, f"{query} "))]] = 0
        rank[(rank == 1) & (self._lengths == len(query))] = 0
        keys = rows | self._lengths[rows].astype(np.int64) << 32 | rank[rows].astype(np.int64) << 48
        if first is not None:
            keys[rows == first] = first
        if len(keys) > limit:
            keys = np.partition(keys, limit)[:limit]
        return Found((np.sort(keys) & 0xFFFFFFFF).astype(np.uint32), len(rows))


def _range(texts: pa.StringArray, prefix: str) -> tuple[int, int]:
    """Where the sorted texts that begin with the prefix stand."""
    first = prefix.encode()

    def at(place: int) -> bytes:
        return bytes(texts[place].as_py().encode())

    places = range(len(texts))
    start = bisect_left(places, first, key=at)
    return start, bisect_left(places, first + b"\xff", lo=start, key=at)
