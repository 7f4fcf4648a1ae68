"""What the session's server serves: see `cluster` in tests/conftest.py."""

from tests.support.builder import random_matrix

ITEMS = 120
MATRICES = [random_matrix(seed, ITEMS, density=0.9, negative=True) for seed in range(3)]
