"""The best sums of whole dense rows: found with float32, then added up exactly where it matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from simshard.shards.format import ShardReader
from simshard.shards.query import Hits, Query, at_least, best

_FEWEST = 2048  # items: below, a row is added up exactly as fast
_WEIGHTS = (2.0**-60, 2.0**60)  # what float32 holds as well as 1
_LARGEST = 1e38
_UNIT = 2.0**-24  # of float32: how far a rounded number is off, at most, of 1
_LEAST = 2.0**-126  # how far one may be off near 0, also where a library has the processor flush to 0


def in_windows(reader: ShardReader, rows: list[int], ahead: bool = True) -> Iterator[tuple[int, int]]:
    """Place and row of each of these rows; ahead: their pages are asked for before, a window at a time."""
    for place, row in enumerate(rows):
        if ahead and place % reader.window == 0:
            reader.will_need(rows[place : place + reader.window])
        yield place, row


def best_sums(parts: Sequence[tuple[ShardReader, Query]], query: Query) -> Hits | None:
    """The hits of a query with several seeds; the same bits as all sums, exact and put in order, would give.

    parts: each reader with what is asked of its shard. None where the query asks for another way: few rows selected,
    boosts, another strategy, or a cut that float32 cannot tell.

    A sum in float32 is off by less than `error`, so what may be among the best lies within twice of it of the last one
    that seems to be. Where those sums are above 0, their rows have pairs: no bitmap is looked at.
    Source of the bound: N. J. Higham, "Accuracy and Stability of Numerical Algorithms", 2002, section 4.2.
    """
    first, weights, needed = parts[0][0], query.weights, query.offset + query.limit
    total = float(weights.sum()) * first.score_abs_max
    selected = query.selection is None or query.selection.rows is None
    strategy = query.strategy
    plain = strategy.is_sum and query.factors is None and selected
    within = _WEIGHTS[0] <= weights.min() and weights.max() <= _WEIGHTS[1] and total < _LARGEST
    if not plain or not within or first.items < _FEWEST or 4 * needed > first.items:
        return None
    rows: list[tuple[Query, int, NDArray[np.float32]]] = []
    sums, scratch = np.zeros(first.items, np.float32), np.empty(first.items, np.float32)
    for reader, part in parts:
        for seed, row in in_windows(reader, part.rows.tolist()):
            values, weight = reader.values(row), np.float32(part.weights[seed])
            rows.append((part, seed, values))
            add = np.subtract if part.negative[seed] else np.add
            add(sums, values if weight == 1 else np.multiply(values, weight, out=scratch), out=sums)
    error = 1.01 * (len(rows) + 4) * (_UNIT * total + _LEAST)
    sums[query.exclude] = -np.inf
    if query.selection is not None:
        np.copyto(sums, -np.inf, where=~query.selection.mask)
    cut = float(sums[best(sums, needed)[-1]]) - 2 * error
    if cut <= 0:
        return None
    places = np.flatnonzero(sums >= np.nextafter(np.float32(cut), np.float32(0)))
    if 4 * len(places) > first.items:
        return None
    exact, product = np.zeros(len(places)), np.empty(len(places))
    for part, seed, values in rows:
        factor, negative = float(part.weights[seed]), bool(part.negative[seed])
        strategy.accumulate((exact,), values.take(places), None, product, factor, negative, part.rounding)
    if query.score_threshold is not None:
        keep = at_least(exact, query.score_threshold)
        places, exact = places[keep], exact[keep]
    chosen = best(exact, needed)[query.offset :]
    return Hits(places[chosen].astype(np.uint32), exact[chosen])
