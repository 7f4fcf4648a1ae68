"""payloads.arrow: the payload of each item as the JSON that stands in an answer, written once by the build.

One column, `payload: large_binary`, a row an item in row order, in record batches of a fixed number of rows. It stays
mapped: an answer takes bytes out of it, and no Python object is made of any value.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from simshard.shards.errors import CorruptFile
from simshard.shards.manifest import PAYLOADS, FileInfo, HashedFile

Text = bytes | memoryview
_BATCH_ROWS = 4096
_SCHEMA = pa.schema({"payload": pa.large_binary()})


def write_payloads(folder: Path, attributes: dict[str, pa.Array]) -> FileInfo | None:
    """Write payloads.arrow for attribute columns (N each, title included), in row order; None where there are none."""
    if not attributes:
        return None
    names = list(attributes)
    rows = len(attributes[names[0]])
    sink = HashedFile(folder / PAYLOADS)
    with pa.ipc.new_file(pa.PythonFile(sink, mode="w"), _SCHEMA) as writer:
        for start in range(0, rows, _BATCH_ROWS):
            columns = [plain_zeros(attributes[name].slice(start, _BATCH_ROWS)).to_pylist() for name in names]
            payloads = [
                orjson.dumps({name: value for name, value in zip(names, values, strict=True) if value is not None})
                for values in zip(*columns, strict=True)
            ]
            writer.write_batch(pa.record_batch([pa.array(payloads, pa.large_binary())], schema=_SCHEMA))
    sink.close()
    return sink.info()


def plain_zeros(column: pa.Array) -> pa.Array:
    """The column, -0.0 as 0.0, which it equals, so that equal values are equal bytes."""
    return pc.add(column, 0.0) if pa.types.is_float64(column.type) else column


class Payloads:
    """The payloads of a snapshot's items as JSON, memory-mapped."""

    def __init__(self, folder: Path) -> None:
        path = folder / PAYLOADS
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            columns = [reader.get_batch(index)["payload"] for index in range(reader.num_record_batches)]
            short = [len(column) for column in columns[:-1] if len(column) != _BATCH_ROWS]
        except (pa.ArrowInvalid, KeyError, OSError) as error:
            raise CorruptFile(f"{path}: not a table of payloads ({error})") from error
        if short or reader.schema != _SCHEMA:
            raise CorruptFile(f"{path}: not a table of payloads in batches of {_BATCH_ROWS} rows")
        # An offset is read as a plain int, bytes are sliced: pyarrow's own way makes two objects of each value.
        self._offsets = [memoryview(column.buffers()[1]).cast("q") for column in columns]
        self._bytes = [memoryview(column.buffers()[2] or b"").cast("B") for column in columns]

    def of(self, rows: Iterable[int]) -> list[Text]:
        """The payload of each row, JSON, where it is mapped."""
        found: list[Text] = []
        for row in rows:
            batch, place = divmod(row, _BATCH_ROWS)
            offsets = self._offsets[batch]
            found.append(self._bytes[batch][offsets[place] : offsets[place + 1]])
        return found
