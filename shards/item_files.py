"""All files that a snapshot has of its items, written together."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from simshard.shards.items import write_items
from simshard.shards.manifest import FileInfo
from simshard.shards.payloads import write_payloads
from simshard.shards.titles import write_titles


class ItemFiles(NamedTuple):
    """The fields of a `Manifest` that tell of them; None where there is nothing to hold."""

    items_file: FileInfo
    titles_file: FileInfo | None
    payloads_file: FileInfo | None


def write_item_files(folder: Path, ids: pa.Array, attributes: dict[str, pa.Array]) -> ItemFiles:
    """Write them for `ids` (N, int64 or string, unique) and attribute columns (N each, `title` among them if there are
    titles), in row order. Raises InputError as `write_items` does.
    """
    return ItemFiles(
        write_items(folder, ids, attributes),
        write_titles(folder, attributes.get("title")),
        write_payloads(folder, attributes),
    )
