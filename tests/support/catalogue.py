"""Attributes for test stores, and filters over them."""

import numpy as np
import pyarrow as pa
from hypothesis import strategies as st

TYPES = ["TV", "Movie", "OVA"]
TAGS = ["Action", "Drama", "Space", "Comedy"]
BIG = 2**53 + 1  # an integer that a float64 does not hold


def items_of(count, seed=0):
    """Items as dicts; about one in six has no value for an attribute."""
    rng = np.random.default_rng(seed)

    def some(value):
        return None if rng.random() < 0.16 else value

    return [
        {
            "title": f"Title {row}",
            "type": some(TYPES[rng.integers(len(TYPES))]),
            "year": some(int(rng.integers(1990, 1996)) if row % 9 else BIG),
            "rating": some(float(rng.integers(1, 12)) / 2),
            "tags": some([tag for tag in TAGS if rng.random() < 0.4]),
        }
        for row in range(count)
    ]


def columns_of(items):
    """The same as attribute columns."""
    kinds = {
        "title": pa.string(),
        "type": pa.string(),
        "year": pa.int64(),
        "rating": pa.float64(),
        "tags": pa.list_(pa.string()),
    }
    return {name: pa.array([item[name] for item in items], kind) for name, kind in kinds.items()}


def _match(values):
    several = st.lists(values, max_size=3)
    return st.one_of(
        st.builds(lambda value: {"value": value}, values),
        st.builds(lambda many: {"any": many}, several),
        st.builds(lambda many: {"except": many}, several),
    )


def _range(bounds):
    return st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), bounds, min_size=1, max_size=2)


YEARS = st.sampled_from([1989, 1990, 1992, 1992.5, 1994, 1995.0, BIG - 1, BIG, BIG + 1, 1e300, -(2**70), 2**63])
RATINGS = st.sampled_from([0, 1, 1.5, 3, 3.25, 5.5, 6, 99, -1e300])
CONDITIONS = st.one_of(
    st.builds(lambda m: {"key": "type", "match": m}, _match(st.sampled_from([*TYPES, "Radio"]))),
    st.builds(lambda m: {"key": "tags", "match": m}, _match(st.sampled_from([*TAGS, "none"]))),
    st.builds(lambda m: {"key": "year", "match": m}, _match(YEARS)),
    st.builds(lambda m: {"key": "rating", "match": m}, _match(RATINGS)),
    st.builds(lambda r: {"key": "year", "range": r}, _range(YEARS)),
    st.builds(lambda r: {"key": "rating", "range": r}, _range(RATINGS)),
    st.builds(
        lambda key, null: {"key": key, "is_null": null},
        st.sampled_from(["type", "year", "rating", "tags"]),
        st.booleans(),
    ),
)
FILTERS = st.fixed_dictionaries(
    {}, optional={part: st.lists(CONDITIONS, max_size=2) for part in ("must", "should", "must_not")}
)
