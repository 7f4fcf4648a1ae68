"""What a question says of rows, as arrays: filters, boosts, groups, orders; compiled once, kept in bounds."""

from __future__ import annotations

import asyncio
from concurrent.futures import Executor
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from simshard.serve.engine.cache import Lru
from simshard.serve.engine.named_filters import NamedFilters
from simshard.serve.engine.question import Question
from simshard.serve.engine.single_flight import SingleFlight
from simshard.serve.engine.table import Table
from simshard.shards.errors import InvalidFilter
from simshard.shards.filters import Groups, Mask, compile_filter, group_rows, order_rows
from simshard.shards.hidden import Hidden
from simshard.shards.query import Rows, Selection

CAPACITY = 32 << 20  # bytes of masks and orders that a replica keeps


class Factors(NamedTuple):
    """Boosts compiled: the factor of each and its rows, bool (N,), and their product for every row, float64 (N,)."""

    each: tuple[tuple[float, Mask], ...]
    product: NDArray[np.float64]


class Compiled(NamedTuple):
    """What a question says of rows, for one table and one list of hidden items.

    selection: which rows can be hits, None: all; factors: of its boosts; groups: the group of each row, where hits are
    grouped; order: the rows that fill up where hits run out, best first.
    """

    selection: Selection | None
    factors: Factors | None
    groups: Groups | None
    order: Rows | None


class CompiledFilters:
    """What filters of requests select, beside the operator's own filter and the hidden items."""

    def __init__(self, pool: Executor, named: NamedFilters) -> None:
        self._pool = pool
        self._default = named.default
        self._default_text = named.default_text
        self._kept: Lru[Selection | Rows | Groups] = Lru(CAPACITY)
        self._flights: SingleFlight[Any] = SingleFlight()

    def version(self, hidden: Hidden) -> str:
        """Part of cache keys and ETags: what items are kept out of every answer."""
        return f"{hidden.digest} {self._default_text}"

    def all(self, hidden: Hidden, text: str) -> bool:
        """Whether nothing keeps any item out."""
        return not text and not hidden.items and self._default is None

    async def compile(self, table: Table, question: Question, hidden: Hidden) -> Compiled:
        """All that a question says of rows. Raises InvalidFilter."""
        selection = await self.selection(table, hidden, question.filter)
        if question.candidates is not None:
            selection = _among(question.candidates, selection, len(table.items))
        factors = await self._factors(table, question.boosts)
        groups = None if question.group_by is None else await self._groups(table, question.group_by)
        order = None if question.fallback is None else await self._order(table, *question.fallback)
        return Compiled(selection, factors, groups, order)

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

    async def _factors(self, table: Table, boosts: tuple[tuple[str, float], ...]) -> Factors | None:
        """The boosts of a request for a table; None where there are none. Raises InvalidFilter."""
        if not boosts:
            return None
        each = []
        for i, (text, factor) in enumerate(boosts):
            try:
                selection = await self._get((table.name, "boost", text), self._compile, table, text)
            except InvalidFilter as error:  # which others with another place may wait for, too
                place = f"boost[{i}].filter{error.field}"
                raise InvalidFilter(place, error.message, error.attributes) from error
            each.append((factor, selection.mask))

        def multiply() -> Factors:
            product = np.ones(len(table.items))
            for factor, mask in each:
                product[mask] *= factor
            return Factors(tuple(each), product)

        return await asyncio.get_running_loop().run_in_executor(self._pool, multiply)

    async def _order(self, table: Table, key: str, descending: bool) -> Rows:
        """Rows that have a number `key`, by it, ties by ascending row. Raises InvalidFilter."""
        rows: Rows = await self._get(
            (table.name, "order", key, descending), order_rows, table.items, key, descending, "fallback.order_by"
        )
        return rows

    async def _groups(self, table: Table, key: str) -> Groups:
        """The group of each row by an attribute. Raises InvalidFilter."""
        groups: Groups = await self._get((table.name, "groups", key), group_rows, table.items, key, "group_by")
        return groups

    async def _get(self, key: tuple[Any, ...], make: Any, *arguments: Any) -> Any:
        """What is kept under a key, or made in the pool, once for all who ask meanwhile."""
        kept: Any = self._kept.get(key)
        if kept is not None:
            return kept

        async def keep() -> Any:
            made = await asyncio.get_running_loop().run_in_executor(self._pool, make, *arguments)
            self._kept.put(key, made, made.nbytes + sum(len(str(part)) for part in key))
            return made

        return await self._flights.run(key, keep)

    def _compile(self, table: Table, text: str) -> Selection:
        return Selection(compile_filter(table.items, orjson.loads(text), ""))

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


def _among(candidates: tuple[int, ...], selection: Selection | None, items: int) -> Selection:
    """Those of the candidates that are selected."""
    rows = np.array(sorted(candidates), dtype=np.uint32)
    return Selection.of_rows(rows if selection is None else rows[selection.mask[rows]], items)
