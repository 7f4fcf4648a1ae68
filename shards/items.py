"""The item table of a snapshot: ids, titles, attributes, and the index from id to row.

`items.arrow` is one record batch in row order: `id` (int64 or string), `title` where there is one, a column for each
attribute (string, int64, float64, list<string>), and the id index: `_index_key` ascending (the id, or XXH3-64 of a
string id's UTF-8) with `_index_row` beside it. The columns stay mapped; no Python object is kept per item.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from simshard.shards.errors import CorruptFile, InputError
from simshard.shards.manifest import ITEMS, FileInfo, write_batch
from simshard.shards.payloads import Payloads, Text, plain_zeros
from simshard.shards.plain_values import SAFE_INTEGER, plain_id

RESERVED = "_index_"
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,18})")
_FEW = 64  # rows that are read faster one by one than by Arrow's take
_TYPES = (pa.int64(), pa.float64(), pa.string(), pa.list_(pa.string()))


def write_items(folder: Path, ids: pa.Array, attributes: dict[str, pa.Array]) -> FileInfo:
    """Write items.arrow for `ids` (N, int64 or string, unique) and attribute columns (N each), in row order.

    Raises InputError for an attribute name or type that the format cannot hold.
    """
    for name, column in attributes.items():
        if name.startswith(RESERVED) or name == "id":
            raise InputError(f"attribute {name!r}: this name is reserved; rename the column")
        if column.type not in _TYPES:
            raise InputError(f"attribute {name!r}: type {column.type} is not one of string, int64, float64, list")
    keys = ids.to_numpy() if pa.types.is_int64(ids.type) else _hashes(ids)
    order = np.argsort(keys, kind="stable")
    columns = {
        "id": ids,
        **attributes,
        "_index_key": pa.array(keys[order]),
        "_index_row": pa.array(order.astype(np.uint32)),
    }
    # Equal values are to be equal bytes: `take` leaves nothing under nulls, and the schema names lists' elements alike.
    kinds = {
        name: pa.list_(pa.string()) if pa.types.is_list(each.type) else each.type for name, each in columns.items()
    }
    everything = pa.array(np.arange(len(ids)))
    taken = (each.take(everything) for each in columns.values())
    batch = pa.record_batch([plain_zeros(each) for each in taken], schema=pa.schema(kinds))
    return write_batch(folder / ITEMS, batch)


def _hashes(ids: pa.Array) -> np.ndarray[Any, np.dtype[np.uint64]]:
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(id_.as_py().encode()) for id_ in ids), np.uint64, len(ids))


class Items:
    """A snapshot's items, memory-mapped."""

    def __init__(self, folder: Path, payloads: Payloads | None = None) -> None:
        path = folder / ITEMS
        self._payloads = payloads
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            self.ids = _only_chunk(table["id"])
            self._keys = _only_chunk(table["_index_key"]).to_numpy()
            self._rows = _only_chunk(table["_index_row"]).to_numpy()
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise CorruptFile(f"{path}: not an item table ({error})") from error
        self.integer = pa.types.is_int64(self.ids.type)
        # Pages of the file, as all columns. Plain ints come out of these faster than out of numpy or pyarrow.
        self._sorted = memoryview(self._keys)
        if self.integer:
            self._integers = memoryview(self.ids.to_numpy())
            ends = (self._sorted[0], self._sorted[-1]) if len(self._sorted) else ()
            self._all_safe = all(abs(end) <= SAFE_INTEGER for end in ends)
        else:
            _, ends, letters = self.ids.buffers()
            self._ends, self._letters = memoryview(ends or b"").cast("i"), memoryview(letters or b"")
        names = [name for name in table.column_names if name != "id" and not name.startswith(RESERVED)]
        self.columns = {name: _only_chunk(table[name]) for name in names}

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, id_: int | str) -> int | None:
        """The row of an id, or None. Text is parsed to the catalogue's type, an integer is written as text."""
        key: int
        if self.integer:
            if isinstance(id_, str):
                text = id_
                try:
                    id_ = int(text)
                except ValueError:
                    return None
                if str(id_) != text:  # "07", "+7", "-0"
                    return None
            if not -(2**63) <= id_ < 2**63:
                return None
            key = id_
        else:
            id_ = str(id_)
            try:
                key = xxhash.xxh3_64_intdigest(id_.encode())
            except UnicodeEncodeError:
                return None
        position = bisect_left(self._sorted, key)
        while position < len(self._sorted) and self._sorted[position] == key:
            row = int(self._rows[position])
            if self.integer or self._text(row) == id_:
                return row
            position += 1
        return None

    def rows(self, ids: pa.Array) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """Rows of many ids, all of which must be known; uint32 (len(ids),)."""
        found = pc.index_in(ids, value_set=self.ids)
        if found.null_count:
            raise KeyError(ids.filter(found.is_null())[0].as_py())
        rows: np.ndarray[Any, np.dtype[np.uint32]] = found.to_numpy().astype(np.uint32)
        return rows

    def find(self, ids: pa.Array) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of many ids (M,), int64 or string, as `row` finds them; int64 (M,), -1 for those that are unknown."""
        if self.integer and pa.types.is_int64(ids.type):
            keys = ids.to_numpy()
        elif self.integer:
            written = pc.match_substring_regex(ids, f"^(?:{_INTEGER.pattern})$")
            numbers = pc.if_else(pc.and_(written, pc.not_equal(ids, "-0")), ids, None).cast(pa.int64())
            found = np.full(len(ids), -1)
            found[numbers.is_valid().to_numpy(zero_copy_only=False)] = self.find(numbers.drop_null())
            return found
        else:
            ids = ids.cast(pa.string())
            keys = _hashes(ids)
        places = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        found = np.where(self._keys[places] == keys, self._rows[places].astype(np.int64), -1)
        if not self.integer:  # the first item of that hash may be another
            others = np.flatnonzero(found >= 0)
            same = pc.equal(self.ids.take(pa.array(found[others])), ids.take(pa.array(others)))
            for place in others[~same.to_numpy(zero_copy_only=False)].tolist():
                found[place] = self._row_or(ids[place].as_py())
        return found

    def _row_or(self, id_: int | str) -> int:
        row = self.row(id_)
        return -1 if row is None else row

    def find_all(self, ids: Sequence[int | str]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """Rows of many ids (M,), integers or text or both, as `row` finds them; int64 (M,), -1 for unknown ones."""
        if len(ids) > _FEW:
            try:
                return self.find(pa.array(ids, pa.int64() if self.integer and isinstance(ids[0], int) else pa.string()))
            except (pa.ArrowException, OverflowError, TypeError, UnicodeEncodeError):
                pass  # some are of the other kind, or fit neither
        return np.array([self._row_or(id_) for id_ in ids], dtype=np.int64)

    @property
    def types(self) -> dict[str, str]:
        """The attributes that there are, with their types as messages call them."""
        return {name: type_name(column.type) for name, column in self.columns.items()}

    def id(self, row: int) -> int | str:
        """The id as it stands in an answer."""
        return plain_id(self._integers[row]) if self.integer else self._text(row)

    def _text(self, row: int) -> str:
        return str(self._letters[self._ends[row] : self._ends[row + 1]], "utf-8")

    def id_texts(self, rows: Sequence[int]) -> list[bytes]:
        """The id of each row as it stands in an answer, JSON."""
        if not self.integer:
            return [orjson.dumps(self._text(row)) for row in rows]
        ids = orjson.dumps([self._integers[row] for row in rows])[1:-1].split(b",") if rows else []
        return ids if self._all_safe else [b'"%b"' % id_ if abs(int(id_)) > SAFE_INTEGER else id_ for id_ in ids]

    def title(self, row: int) -> str | None:
        """The title of a row, if it has one."""
        title: str | None = self.columns["title"][row].as_py() if "title" in self.columns else None
        return title

    def payload(self, row: int) -> dict[str, Any]:
        """Title and attributes of a row; absent ones left out."""
        values = ((name, column[row].as_py()) for name, column in self.columns.items())
        return {name: value for name, value in values if value is not None}

    def payload_texts(self, rows: Sequence[int]) -> list[Text]:
        """The payload of each row, JSON: as the build wrote it, or made of the columns."""
        if self._payloads is not None:
            return self._payloads.of(rows)
        if len(rows) < _FEW:
            return [orjson.dumps(self.payload(row)) for row in rows]
        places = pa.array(rows)
        columns = [column.take(places).to_pylist() for column in self.columns.values()]
        names = list(self.columns)
        return [
            orjson.dumps({name: value for name, value in zip(names, values, strict=True) if value is not None})
            for values in (zip(*columns, strict=True) if columns else [()] * len(rows))
        ]


def type_name(kind: pa.DataType) -> str:
    """An attribute's type for people: string, int64, float64 or list<string>."""
    return "list<string>" if pa.types.is_list(kind) else "float64" if pa.types.is_float64(kind) else str(kind)


def _only_chunk(column: pa.ChunkedArray) -> pa.Array:
    if column.num_chunks != 1:
        raise pa.ArrowInvalid(f"{column.num_chunks} record batches where 1 is expected")
    return column.chunk(0)
