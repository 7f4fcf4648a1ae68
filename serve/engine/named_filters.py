"""Filters by their names and as text: those of the settings, and those of requests, which may name them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from simshard.serve.engine.table import Table
from simshard.serve.schema.filters import Boost, Filter
from simshard.serve.schema.validation import expand
from simshard.shards.filters import check_filters


class NamedFilters:
    """The filters of the settings; `default` is the one that every answer passes, None where there is none.

    A filter is told by its canonical JSON text from here on: part of cache keys, and the key of what is compiled.
    """

    def __init__(self, named: Mapping[str, Any], default: str | None) -> None:
        self._named = named
        self.default: Any = None if default is None else named[default]
        self.default_text = "" if self.default is None else orjson.dumps(self.default).decode()

    def text(self, given: Filter | str | None, place: str = "filter") -> str:
        """The text of a filter; empty for none. Raises InvalidQuery for a name that there is not."""
        return "" if given is None else orjson.dumps(expand(given, self._named, place)).decode()

    def boosts(self, given: Sequence[Boost]) -> tuple[tuple[str, float], ...]:
        """Text and factor of each boost. Raises InvalidQuery."""
        return tuple((self.text(boost.filter, f"boost[{i}].filter"), boost.factor) for i, boost in enumerate(given))

    def check(self, table: Table) -> None:
        """Compile every named filter for a table before it serves. Raises InvalidFilter, naming the filter."""
        check_filters(table.items, self._named)
