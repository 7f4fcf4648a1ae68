"""Filters, named ones and the operator's, and hidden items -> which rows can be hits; compiled once, kept in bounds."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from simshard.serve.engine.cache import Lru
from simshard.serve.engine.table import Table
from simshard.serve.schema.requests import Boost, Filter
from simshard.serve.schema.validation import expand
from simshard.shards.filters import Groups, Mask, check_filters, compile_filter, group_rows, order_rows
from simshard.shards.hidden import Hidden
from simshard.shards.query import Rows, Selection

CAPACITY = 32 << 20  # bytes of masks and orders that a replica keeps


class Factors(NamedTuple):
    """Boosts compiled: the factor of each and its rows, bool (N,), and their product for every row, float64 (N,)."""

    each: tuple[tuple[float, Mask], ...]
    product: NDArray[np.float64]


class CompiledFilters:
    """What filters of requests select, beside the operator's own filter and the hidden items.

    A filter is named by its canonical JSON text from here on: part of cache keys, and the key of what is kept.
    """

    def __init__(self, pool: Executor, named: Mapping[str, Any], default: str | None) -> None:
        self._pool = pool
        self._named = named
        self._default = None if default is None else named[default]
        self._default_text = "" if self._default is None else orjson.dumps(self._default).decode()
        self._kept: Lru[Selection | Rows | Groups] = Lru(CAPACITY)
        self._flights: dict[tuple[Any, ...], asyncio.Future[Any]] = {}
        self.hidden = Hidden()

    def version(self, hidden: Hidden) -> str:
        """Part of cache keys and ETags: what items are kept out of every answer."""
        return f"{hidden.digest} {self._default_text}"

    def canonical(self, given: Filter | str | None, place: str = "filter") -> str:
        """The text that names a filter; empty for none. Raises InvalidQuery for a name that there is not."""
        return "" if given is None else orjson.dumps(expand(given, self._named, place)).decode()

    def boosts(self, given: Sequence[Boost]) -> tuple[tuple[str, float], ...]:
        """Filter and factor of each boost. Raises InvalidQuery."""
        return tuple(
            (self.canonical(boost.filter, f"boost[{i}].filter"), boost.factor) for i, boost in enumerate(given)
        )

    def check(self, table: Table) -> None:
        """Compile every named filter for a table before it serves. Raises InvalidFilter, naming the filter."""
        check_filters(table.items, self._named)

    def all(self, hidden: Hidden, text: str) -> bool:
        """Whether nothing keeps any item out."""
        return not text and not hidden.items and self._default is None

    async def selection(self, table: Table, hidden: Hidden, text: str) -> Selection | None:
        """What can be hits under a filter; None: all items. Raises InvalidFilter."""
        if self.all(hidden, text):
            return None
        selection = await self._get((table.name, hidden.digest, text), self._select, table, text, hidden)
        return selection if selection.count < len(table.items) else None

    def known(self, table: Table, hidden: Hidden) -> Selection | None:
        """What can be hits where a request has no filter, None: all items; without waiting. Raises KeyError where it is
        not compiled yet.
        """
        if self.all(hidden, ""):
            return None
        kept = self._kept.get((table.name, hidden.digest, ""))
        if not isinstance(kept, Selection):
            raise KeyError(table.name)
        return kept

    async def factors(self, table: Table, boosts: tuple[tuple[str, float], ...]) -> Factors | None:
        """The boosts of a request for a table; None where there are none. Raises InvalidFilter."""
        if not boosts:
            return None
        each = []
        for i, (text, factor) in enumerate(boosts):
            place = f"boost[{i}].filter"
            selection = await self._get((table.name, "boost", text), self._compile, table, text, place)
            each.append((factor, selection.mask))

        def multiply() -> Factors:
            product = np.ones(len(table.items))
            for factor, mask in each:
                product[mask] *= factor
            return Factors(tuple(each), product)

        return await asyncio.get_running_loop().run_in_executor(self._pool, multiply)

    async def order(self, table: Table, key: str, descending: bool) -> Rows:
        """Rows that have a number `key`, by it, ties by ascending row. Raises InvalidFilter."""
        rows: Rows = await self._get(
            (table.name, "order", key, descending), order_rows, table.items, key, descending, "fallback.order_by"
        )
        return rows

    async def groups(self, table: Table, key: str) -> Groups:
        """The group of each row by an attribute. Raises InvalidFilter."""
        groups: Groups = await self._get((table.name, "groups", key), group_rows, table.items, key, "group_by")
        return groups

    async def _get(self, key: tuple[Any, ...], make: Any, *arguments: Any) -> Any:
        """What is kept under a key, or made in the pool, once for all who ask meanwhile."""
        kept: Any = self._kept.get(key)
        if kept is not None:
            return kept
        flight = self._flights.get(key)
        if flight is None:
            flight = asyncio.get_running_loop().run_in_executor(self._pool, make, *arguments)
            self._flights[key] = flight
            flight.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(flight)

    def _landed(self, key: tuple[Any, ...], flight: asyncio.Future[Any]) -> None:
        del self._flights[key]
        if not flight.cancelled() and flight.exception() is None:
            self._kept.put(key, flight.result(), flight.result().nbytes + sum(len(str(part)) for part in key))

    def _compile(self, table: Table, text: str, place: str) -> Selection:
        return Selection(compile_filter(table.items, orjson.loads(text), place))

    def _select(self, table: Table, text: str, hidden: Hidden) -> Selection:
        mask = np.ones(len(table.items), dtype=np.bool_)
        for id_, _ in hidden.items:
            row = table.items.row(id_)
            if row is not None:
                mask[row] = False
        if self._default is not None:
            mask &= compile_filter(table.items, self._default, "the server's default filter")
        if text:
            mask &= compile_filter(table.items, orjson.loads(text))
        return Selection(mask)
