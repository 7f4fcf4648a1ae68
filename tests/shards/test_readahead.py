"""Pages read before they are asked for: the right ones, once, within bounds, and never a fault."""

import mmap
import os
import time

import numpy as np
import pytest

from simshard.shards import format as shard_format
from simshard.shards import readahead
from simshard.shards.format import ShardReader
from simshard.shards.query import Query
from simshard.shards.readahead import advise, read_ahead
from simshard.shards.search import partial
from simshard.shards.store import Snapshot
from tests.support.builder import random_matrix, write_store

MATRIX = random_matrix(4, 700, density=0.5)


def place(reader, array):
    """Where in the map an array lies: first byte and the one after the last."""
    start = array.ctypes.data - np.frombuffer(reader._map, np.uint8).ctypes.data
    return start, start + array.nbytes


def covered(told, reader, arrays):
    """Whether each array lies in a part that was told."""
    places = [place(reader, array) for array in arrays]
    return all(any(at <= start and stop <= at + size for at, size in told) for start, stop in places)


@pytest.fixture(params=["dense", "sparse"])
def readers(tmp_path, request):
    snapshot = Snapshot(write_store(tmp_path, MATRIX, request.param, shards=2))
    return [ShardReader(snapshot.folder, snapshot.manifest, shard) for shard in range(2)]


@pytest.fixture
def told(monkeypatch):
    parts = []
    monkeypatch.setattr(shard_format, "advise", lambda _, start, size: parts.append((start, size)))
    return parts


def test_whole_rows_are_asked_for_once_in_a_while(readers, told, monkeypatch):
    for reader in readers:
        rows = [reader.row_start, reader.row_start + 99, reader.row_stop - 1]
        reader.will_need(rows)
        first = list(told)
        for row in rows:
            arrays = [reader.full(row)[0]] if reader.dense else reader.listed(row)
            assert covered(first, reader, arrays)
        reader.will_need(rows)
        assert told == first
        now = time.monotonic()
        with monkeypatch.context() as later:
            later.setattr(time, "monotonic", lambda now=now: now + 61)
            reader.will_need(rows)
        assert told == first * 2
        told.clear()


def test_what_answers_most_questions_is_asked_for_within_bounds(readers, told):
    for reader in readers:
        reader.warm(1 << 30)
        for row in range(reader.row_start, reader.row_stop):
            assert covered(told, reader, reader.top(row)[:2])
        told.clear()
        most = 600_000
        reader.warm(most)
        assert 0 < sum(size for _, size in told) <= most * 1.2  # a bitmap lies between rows and scores
        told.clear()


def test_any_part_of_a_file_can_be_asked_for_and_no_fault_matters(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(os.urandom(3 * mmap.PAGESIZE + 5))
    with open(path, "rb") as file:
        for start, size in [(0, 1), (1, 2 * mmap.PAGESIZE), (3 * mmap.PAGESIZE, 1), (5, 1 << 40), (7, 0)]:
            advise(file.fileno(), start, size)
        closed = os.dup(file.fileno())
    os.close(closed)
    advise(closed, 0, 1)


def test_many_large_rows_are_asked_for_a_window_at_a_time(tmp_path, told, monkeypatch):
    monkeypatch.setattr(shard_format, "_WINDOW", 3 * 4 * 700)
    snapshot = Snapshot(write_store(tmp_path, MATRIX, shards=1))
    reader = ShardReader(snapshot.folder, snapshot.manifest, 0)
    assert reader.window == 1
    rows = np.array([5, 90, 400], np.uint32)
    seen = []
    monkeypatch.setattr(reader, "full", lambda row, full=reader.full: seen.append(len(told)) or full(row))
    partial(reader, Query(rows, np.ones(3), np.zeros(3, bool), rows, 10))
    assert seen == [2, 4, 6]  # scores and bitmap of each row, just before it


def test_files_are_read_ahead_up_to_a_bound_and_none_that_is_away_matters(tmp_path, monkeypatch):
    monkeypatch.setattr(readahead, "_PIECE", 1000)
    sizes = {}
    real = os.posix_fadvise

    def note(descriptor, start, size, advice):
        assert advice == os.POSIX_FADV_WILLNEED
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}"))
        sizes[name] = sizes.get(name, 0) + size
        real(descriptor, start, size, advice)

    monkeypatch.setattr(os, "posix_fadvise", note)
    for name, size in (("a", 2500), ("b", 400), ("c", 3000), ("d", 10)):
        (tmp_path / name).write_bytes(bytes(size))
    read_ahead([tmp_path / name for name in ("a", "nothing", "b", "c", "d")], 4000)
    assert sizes == {"a": 2500, "b": 400, "c": 1100}
    monkeypatch.delattr(os, "posix_fadvise")
    read_ahead([tmp_path / "a"], 4000)
