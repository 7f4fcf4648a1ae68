"""A selection of rows as it travels to a shard."""

import numpy as np

from simshard.shards.query import FEW, Selection


def test_a_selection_travels_as_bits_or_rows():
    import pickle

    for count, left in ((1000, 3), (1000, 300), (1000, 999), (7, 3), (64, 0)):
        mask = np.zeros(count, bool)
        mask[np.random.default_rng(left).choice(count, left, replace=False)] = True
        sent = pickle.dumps(Selection(mask))
        assert len(sent) < count // 8 + 400
        back = pickle.loads(sent)
        assert np.array_equal(back.mask, mask)
        assert back.count == left
        assert (back.rows is None) == (left * FEW > count)
