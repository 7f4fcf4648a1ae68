import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from simshard.shards.errors import InvalidQuery
from simshard.shards.query import Partial, Query, best, gather, merge, rounding_for, truncate
from simshard.shards.strategies import strategy_named

WEIGHTS = st.floats(1e-6, 1e6)
SCORES = st.floats(-4, 4, width=32)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, -1.0, 1.0]) | SCORES, max_size=300), st.integers(0, 310))
def test_best_equals_a_stable_sort_whatever_the_ties(scores, count):
    array = np.array(scores, dtype=np.float32)
    expected = sorted(range(len(scores)), key=lambda i: (-array[i], i))[:count]
    assert best(array, count).tolist() == expected


@pytest.mark.parametrize("levels", [1, 2, 50, 10**6])
@pytest.mark.parametrize("count", [1, 10, 300, 9_999])
def test_best_of_long_rows_with_few_and_many_ties(levels, count):
    scores = np.random.default_rng(levels).integers(0, levels, 20_000).astype(np.float64)
    expected = np.lexsort((np.arange(len(scores)), -scores))[:count]
    assert np.array_equal(best(scores, count), expected)


@given(st.lists(WEIGHTS, min_size=2, max_size=5), SCORES, st.floats(0.0078125, 100, width=32))
def test_rounding_is_to_multiples_of_the_unit_half_to_even(weights, score, abs_max):
    score = float(np.float32(min(max(score, -abs_max), abs_max)))
    constant = rounding_for(np.array(weights), abs_max)
    power = Fraction(1)
    largest = Fraction(max(weights) * abs_max)
    while power < largest:
        power *= 2
    while power / 2 >= largest:
        power /= 2
    unit = power / 2**44
    for weight in weights:
        product = weight * score
        assert Fraction((product + constant) - constant) == round(Fraction(product) / unit) * unit


@given(
    st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.0, 8.0, 3.0]), min_size=2, max_size=5),
    st.floats(0, 1, width=32),
    st.floats(0.0078125, 100, width=32),
    st.sampled_from([0.0, 1e-10, 1e-7, 2.0**-21, 5e-7, 1e-5, 0.01]),
)
def test_what_is_not_rounded_would_stay_as_it_is(weights, share, abs_max, abs_min):
    abs_min = float(np.float32(min(abs_min, abs_max)))
    score = float(np.float32(abs_min + (abs_max - abs_min) * share**8))
    with_rounding, without = (rounding_for(np.array(weights), abs_max, 1.0, least) for least in (0.0, abs_min))
    assert without in (0.0, with_rounding)
    if without == 0.0 and score >= abs_min > 0:
        for weight in weights:
            assert (weight * score + with_rounding) - with_rounding == weight * score


def test_weights_of_one_and_scores_of_common_size_need_no_rounding():
    assert rounding_for(np.ones(20), 1.0, 1.0, 5e-7) == 0.0
    assert rounding_for(np.ones(20), 1.0, 1.0, 4e-7) != 0.0
    assert rounding_for(np.array([1.0, 1.5]), 1.0, 1.0, 0.1) != 0.0


def test_a_single_seed_is_not_rounded():
    assert rounding_for(np.array([0.1]), 1.0) == 0.0


@pytest.mark.parametrize("weights", [[1e39], [1e38] * 4, [1e-300]])
def test_weights_beyond_what_scores_can_hold_are_refused(weights):
    with pytest.raises(InvalidQuery, match="weight"):
        rounding_for(np.array(weights), 1.0)


@st.composite
def partials(draw, strategy, size=12):
    kind = draw(st.sampled_from(["dense", "sparse"]))
    count = 1 if strategy == "sum_scores" else 2
    fill = 0.0 if strategy == "sum_scores" else -math.inf
    present = np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)))
    values = [
        np.array(draw(st.lists(st.integers(-(2**44), 2**44), min_size=size, max_size=size)), dtype=np.float64)
        * 2.0**-44
        for _ in range(count)
    ]
    if kind == "dense":
        columns = tuple(np.where(present, column, fill) for column in values)
        return Partial(strategy_named(strategy), None, present, columns)
    rows = np.flatnonzero(present).astype(np.uint32)
    return gather(strategy_named(strategy), rows, tuple(column[rows] for column in values))


def spread(partial, size=12):
    if partial.rows is None:
        return partial.present.tolist(), [column.tolist() for column in partial.columns]
    present = np.zeros(size, bool)
    present[partial.rows] = True
    fill = 0.0 if partial.strategy.name == "sum_scores" else -math.inf
    columns = [np.full(size, fill) for _ in partial.columns]
    for full, column in zip(columns, partial.columns, strict=True):
        full[partial.rows] = column
    return present.tolist(), [column.tolist() for column in columns]


@given(st.data(), st.sampled_from(["sum_scores", "best_score"]))
def test_merge_is_associative_and_commutative_exactly(data, strategy):
    a, b, c = (data.draw(partials(strategy)) for _ in range(3))
    expected = spread(merge([a, b, c]))
    assert spread(merge([c, b, a])) == expected
    assert spread(merge([merge([a, b]), c])) == expected
    assert spread(merge([a, merge([b, c])])) == expected
    assert spread(merge([b, merge([c, a])])) == expected


def test_truncate_takes_out_excludes_and_fills_up_to_the_limit():
    query = Query(
        rows=np.array([0], np.uint32),
        weights=np.ones(1),
        negative=np.zeros(1, bool),
        exclude=np.array([0, 3], np.uint32),
        limit=2,
        offset=1,
    )
    partial = Partial(
        strategy_named("sum_scores"), None, np.array([1, 1, 1, 1, 1], bool), (np.array([9.0, 1.0, 3.0, 8.0, 3.0]),)
    )
    found = truncate(partial, query)
    assert found.rows.tolist() == [4, 1]
    assert found.scores.tolist() == [3.0, 1.0]
