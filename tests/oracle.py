"""Brute force, in exact fractions: what every answer must be."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Seed(NamedTuple):
    row: int
    weight: float = 1.0
    negative: bool = False


def unit_of(matrix, seeds):
    """2^-44 P, P the smallest power of two >= the largest weight x score_abs_max; None where nothing is rounded."""
    with np.errstate(all="ignore"):
        largest = max(seed.weight for seed in seeds) * float(np.nanmax(np.abs(matrix)))
    if largest == 0 or len(seeds) == 1:
        return None
    power = Fraction(2) ** (math.frexp(largest)[1] + 1)
    while power / 2 >= Fraction(largest):
        power /= 2
    return power / 2**44


def contributions(matrix, seeds, candidate, unit):
    """(seed index, exact weighted score) of every seed that has a pair with the candidate; signs not applied."""
    found = []
    for i, seed in enumerate(seeds):
        score = matrix[seed.row, candidate]
        if np.isnan(score):
            continue
        value = Fraction(float(seed.weight) * float(score))
        if unit is not None:
            value = round(value / unit) * unit  # Fraction rounds half to even
        found.append((i, value))
    return found


def hits(matrix, seeds, strategy="sum_scores", exclude=(), limit=10, offset=0, threshold=None):
    """[(row, float32 score)], exactly as DESIGN orders them. matrix: (N, N), NaN where there is no pair."""
    never = {seed.row for seed in seeds} | set(exclude)
    scored = []
    unit = unit_of(matrix, seeds)
    for candidate in range(len(matrix)):
        found = contributions(matrix, seeds, candidate, unit)
        if candidate in never or not found:
            continue
        if strategy == "sum_scores":
            total = sum((-value if seeds[i].negative else value for i, value in found), Fraction(0))
        else:
            positive = [value for i, value in found if not seeds[i].negative]
            negative = [value for i, value in found if seeds[i].negative]
            total = max(positive) if positive else None
            if negative and (total is None or max(negative) > total):
                total = -max(negative)
        scored.append((candidate, total))
    scored.sort(key=lambda hit: (-hit[1], hit[0]))
    printed = [(row, np.float32(float(total))) for row, total in scored]
    if threshold is not None:
        printed = [hit for hit in printed if hit[1] >= np.float32(threshold)]
    return printed[offset : offset + limit]
