import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from simshard.ingest import top_lists
from simshard.ingest.top_lists import Lists, lists_of

LEVELS = st.sampled_from([np.nan, -1.0, -0.25, 0.0, 0.5, 0.75, 1.0])


@given(
    st.integers(1, 4).flatmap(lambda rows: st.lists(st.lists(LEVELS, min_size=60, max_size=60), min_size=rows)),
    st.none() | st.integers(1, 70),
    st.none() | st.sampled_from([-1.0, 0.0, 0.5, 2.0]),
    st.permutations(range(6)),
    st.sampled_from([0, 1 << 16]),
)
def test_lists_from_tiles_in_any_order_are_the_best_of_whole_rows(matrix, top, threshold, order, spare):
    matrix = np.array(matrix[:256], dtype=np.float32)
    lists = Lists(len(matrix), top, threshold)
    lists._limit = 2 * (top or 0) * len(matrix) + spare
    for tile in order:
        lists.offer(tile * 10, matrix[:, tile * 10 : tile * 10 + 10])
    offsets, neighbors, scores = lists.finish()
    if threshold is not None:
        matrix[matrix < threshold] = np.nan
    for row, values in enumerate(matrix):
        there = np.flatnonzero(~np.isnan(values))
        right = there[np.lexsort((there, -values[there]))][:top]
        some = slice(offsets[row], offsets[row + 1])
        assert neighbors[some].tolist() == right.tolist()
        assert scores[some].tolist() == values[right].tolist()
    whole = lists_of(matrix, top)
    for found, right in zip((offsets, neighbors, scores), whole, strict=True):
        assert np.array_equal(found, right)


def test_neighbors_up_to_the_last_fit_a_key():
    lists = Lists(256, 2, None)
    last = top_lists.MAX_ITEMS - 2
    tile = np.full((256, 2), np.float32(-3.4e38))
    tile[255] = [3.4e38, 1e-45]
    lists.offer(last, tile)
    offsets, neighbors, scores = lists.finish()
    assert neighbors[-2:].tolist() == [last, last + 1]
    assert scores[-2:].tolist() == tile[255].tolist()
    assert offsets[-1] == 512


def test_scattered_tiles_are_all_of_them():
    assert sorted(top_lists.tiles_in_turn(1000)) == list(range(1000))
    assert top_lists.tiles_in_turn(50).tolist() == top_lists.tiles_in_turn(50).tolist()
