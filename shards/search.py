"""What one shard answers: hits, partials and scores, read from its map."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simshard.shards.float32_first import best_sums, in_windows
from simshard.shards.format import MISSING, ShardReader
from simshard.shards.query import Hits, Partial, Query, Rows, Selection, at_least, gather, merge, truncate
from simshard.shards.strategies import contribution

METHODS = ("search", "partial", "scores", "nearest")  # what a shard can be asked by name
_SCORES_A_PAGE = 1024
_WIDEST = 1024  # entries of a sparse row that `nearest` looks at beside those of other rows


def search(reader: ShardReader, query: Query) -> Hits:
    """The hits of a query whose every seed lies in the shard."""
    hits = search_top(reader, query)
    if hits is None:
        hits = search_whole([(reader, query)], query)
    return hits


def search_whole(parts: Sequence[tuple[ShardReader, Query]], query: Query) -> Hits:
    """The hits of a query out of whole rows; parts: each reader in this process with what is asked of its shard."""
    if len(query.rows) > 1 and parts[0][0].dense:
        hits = best_sums(parts, query)
        if hits is not None:
            return hits
    return truncate(merge([partial(reader, part) for reader, part in parts]), query)


def search_top(reader: ShardReader, query: Query) -> Hits | None:
    """Hits of one positive seed from the best stored beside its row, without touching a page of the matrix.

    None where those do not reach far enough, for several seeds, and for a selection of so few rows that looking at
    each of them is faster.
    """
    if len(query.rows) != 1 or query.negative[0]:
        return None
    rows, scores, complete = reader.top(int(query.rows[0]))
    needed = query.offset + query.limit
    for reach in _reaches(query, reader.items, len(rows), complete):
        values = contribution(scores[:reach], query.weights[0], query.rounding)
        keep = query.admits(rows[:reach])
        enough = reach >= len(rows) and complete
        if query.score_threshold is not None:
            passed = at_least(values, query.score_threshold)
            enough = enough or not passed.all()
            keep &= passed
        chosen = np.flatnonzero(keep)[:needed]
        if enough or len(chosen) == needed:
            chosen = chosen[query.offset :]
            return Hits(rows[chosen], values[chosen])
    return None


def best_of(
    reader: ShardReader, row: int, limit: int, offset: int, mask: NDArray[np.bool_] | None
) -> tuple[list[int], NDArray[np.float32]] | None:
    """What `search_top` finds for one row with weight 1 and nothing else, in a fraction of its time: rows and scores.

    mask: bool (N,), which rows can be hits; None: all. None where they are not among the first that are stored.
    """
    rows, scores, complete = reader.top(row)
    stop = offset + limit
    first = rows[:stop].tolist()
    if mask is None and row not in first:
        found, values = first[offset:], scores[offset:stop]
    else:
        reach = 4 * stop + 64
        complete = complete and reach >= len(rows)
        able = rows[:reach] != row
        if mask is not None:
            able &= mask[rows[:reach]]
        chosen = np.flatnonzero(able)[offset:stop]
        found, values = rows[chosen].tolist(), scores[chosen]
    return (found, values) if complete or len(found) == limit else None


def _reaches(query: Query, items: int, stored: int, complete: bool) -> Iterator[int]:
    """How many of the stored best to look at: first as many as should be enough, then all."""
    needed = query.offset + query.limit
    if query.selection is not None:
        if not complete and query.selection.count * stored < needed * items:
            return  # they will hardly hold enough
        needed = _likely(needed, items, query.selection)
    first = needed + len(query.exclude)
    yield first
    if first < stored:
        yield stored


def _likely(count: int, items: int, selection: Selection) -> int:
    """How many of the best of a row should hold so many that are selected."""
    return count * items * 3 // (2 * max(selection.count, 1)) + 8


def partial(reader: ShardReader, query: Query) -> Partial:
    """What the query's seeds, all of the shard, contribute to every candidate."""
    if not reader.dense:
        return _partial_sparse(reader, query)
    candidates = None if query.selection is None else query.selection.rows
    ahead = candidates is None or len(candidates) > reader.items // _SCORES_A_PAGE
    places = None if candidates is None else candidates.astype(np.intp)
    size = reader.items if candidates is None else len(candidates)
    present = np.zeros(size, dtype=np.bool_)
    strategy = query.strategy
    columns = tuple(np.full(size, fill) for _, fill in strategy.columns)
    scratch = np.empty(size)
    for i, row in in_windows(reader, query.rows.tolist(), ahead):
        scores, used = reader.full(row) if places is None else reader.picked(row, places)
        present |= True if used is None else used
        weight, negative = float(query.weights[i]), bool(query.negative[i])
        strategy.accumulate(columns, scores, used, scratch, weight, negative, query.rounding)
    if candidates is None:
        return Partial(query.strategy, None, present, columns)
    return Partial(query.strategy, candidates[present], None, tuple(column[present] for column in columns))


def _partial_sparse(reader: ShardReader, query: Query) -> Partial:
    rows, parts = [np.empty(0, np.uint32)], []
    for i, row in in_windows(reader, query.rows.tolist()):
        neighbors, scores = reader.listed(row)
        if query.selection is not None:
            kept = query.selection.mask[neighbors]
            neighbors, scores = neighbors[kept], scores[kept]
        rows.append(neighbors)
        parts.append(contribution(scores, query.weights[i], query.rounding))
    columns = query.strategy.spread(parts, query.negative)
    return gather(query.strategy, np.concatenate(rows), columns)


def scores(reader: ShardReader, rows: Rows, columns: Rows) -> NDArray[np.float32]:
    """Scores of rows of the shard (R,) with any rows (C,), all different: float32 (R, C), NaN where no pair is."""
    found = np.full((len(rows), len(columns)), MISSING)
    order = np.argsort(columns)
    places = columns.astype(np.intp)
    for i, row in enumerate(rows.tolist()):
        if reader.dense:
            values, used = reader.picked(row, places)
            np.copyto(found[i], values, where=used)
            continue
        neighbors, values = reader.listed(row)
        wanted = np.flatnonzero(np.isin(neighbors, columns))
        found[i, order[np.searchsorted(columns, neighbors[wanted], sorter=order)]] = values[wanted]
    return found


class Nearest(NamedTuple):
    """The best of R rows, best first: how many of each, int (R,), and all of them, row after row, with their scores."""

    counts: NDArray[np.intp]
    neighbors: Rows
    scores: NDArray[np.float32]


def join_nearest(parts: Sequence[Nearest]) -> Nearest:
    """The Nearest of several runs of seeds as one."""
    nothing = Nearest(np.empty(0, np.intp), np.empty(0, np.uint32), np.empty(0, np.float32))
    counts, neighbors, found = zip(nothing, *parts, strict=True)
    return Nearest(np.concatenate(counts), np.concatenate(neighbors), np.concatenate(found))


def nearest(reader: ShardReader, rows: Rows, limit: int, selection: Selection | None) -> Nearest:
    """The hits of many single seeds of the shard (R,), which may repeat; as `search` gives them one by one."""
    counts = np.zeros(len(rows), dtype=np.intp)
    neighbors = np.zeros((len(rows), limit), dtype=np.uint32)
    found = np.zeros((len(rows), limit), dtype=np.float32)
    alone = []
    width = limit
    if selection is not None:
        width = min(_likely(limit, reader.items, selection), _WIDEST)
    for places, top in reader.tops(rows, width):
        if selection is None:
            enough = top.complete | (top.counts >= limit)
            stored = min(limit, top.neighbors.shape[1])
            neighbors[places, :stored], found[places, :stored] = top.neighbors[:, :stored], top.scores[:, :stored]
            counts[places] = np.minimum(top.counts, limit)
        else:
            keep = selection.mask[top.neighbors]
            keep &= np.arange(top.neighbors.shape[1]) < top.counts[:, None]
            rank = np.cumsum(keep, axis=1, dtype=np.int32)
            keep &= rank <= limit
            row, place = np.nonzero(keep)
            at = (places[row], rank[row, place] - 1)
            neighbors[at], found[at] = top.neighbors[row, place], top.scores[row, place]
            counts[places] = keep.sum(axis=1)
            enough = top.complete | (counts[places] >= limit)
        alone += places[~enough].tolist()
    one, positive, nothing = np.ones(1), np.zeros(1, dtype=np.bool_), np.empty(0, dtype=np.uint32)
    for place in alone:
        query = Query(rows[place : place + 1], one, positive, nothing, limit, selection=selection)
        hits = search(reader, query)
        counts[place] = len(hits.rows)
        neighbors[place, : len(hits.rows)], found[place, : len(hits.rows)] = hits.rows, hits.scores
    if (counts == limit).all():
        return Nearest(counts, neighbors.reshape(-1), found.reshape(-1))
    kept = np.arange(limit) < counts[:, None]
    return Nearest(counts, neighbors[kept], found[kept])
