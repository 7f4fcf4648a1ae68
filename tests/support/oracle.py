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


def scored(matrix, seeds, strategy="sum_scores", never=(), factors=None):
    """[(row, score)] of every candidate that is a hit, in order; the score as a float64, which holds it exactly.

    factors: what the score of each row is multiplied by; None: 1.
    """
    never = {seed.row for seed in seeds} | set(never)
    found = []
    unit = unit_of(matrix, seeds) if seeds else None
    for candidate in range(len(matrix)):
        parts = contributions(matrix, seeds, candidate, unit)
        if candidate in never or not parts:
            continue
        total = float(total_of(parts, seeds, strategy))
        found.append((candidate, total if factors is None else total * factors[candidate]))
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))


def total_of(parts, seeds, strategy):
    """The exact score that contributions (seed index, value) make."""
    if strategy == "sum_scores":
        return sum((-value if seeds[i].negative else value for i, value in parts), Fraction(0))
    positive = [value for i, value in parts if not seeds[i].negative]
    negative = [value for i, value in parts if seeds[i].negative]
    if negative and (not positive or max(negative) > max(positive)):
        return -max(negative)
    return max(positive)


def reaching(found, threshold):
    """Those whose printed score reaches the threshold."""
    return [hit for hit in found if threshold is None or np.float32(hit[1]) >= np.float32(threshold)]


def hits(matrix, seeds, strategy="sum_scores", exclude=(), limit=10, offset=0, threshold=None):
    """[(row, float32 score)], exactly as DESIGN orders them. matrix: (N, N), NaN where there is no pair."""
    found = reaching(scored(matrix, seeds, strategy, exclude), threshold)
    return [(row, np.float32(score)) for row, score in found][offset : offset + limit]


def passes(item, given):
    """Whether an item (a dict; a missing key is no value) passes a filter."""
    must, should, must_not = (given.get(part) or [] for part in ("must", "should", "must_not"))
    return (
        all(meets(item, each) for each in must)
        and (not should or any(meets(item, each) for each in should))
        and not any(meets(item, each) for each in must_not)
    )


def meets(item, condition):
    value = item.get(condition["key"])
    values = [] if value is None else value if isinstance(value, list) else [value]
    if "is_null" in condition:
        return (not values) == condition["is_null"]
    if "range" in condition:
        compare = {"gt": "__gt__", "gte": "__ge__", "lt": "__lt__", "lte": "__le__"}
        bounds = condition["range"].items()
        return bool(values) and all(getattr(Fraction(value), compare[how])(Fraction(bound)) for how, bound in bounds)
    ((how, wanted),) = condition["match"].items()
    wanted = [wanted] if how == "value" else wanted
    found = any(value in wanted for value in values)
    return bool(values) and not found if how == "except" else found


def grouped(rows, values, size):
    """The first `size` rows of each value, in order; all of those without one."""
    seen = {}
    kept = []
    for row in rows:
        value = values[row]
        seen[value] = seen.get(value, 0) + 1
        if value is None or seen[value] <= size:
            kept.append(row)
    return kept


def diverse(found, matrix, diversity, limit, scale, directed=False):
    """[(row, score)] in the order of maximal marginal relevance, naively: every candidate looked at in every step."""

    def similarity(chosen, other):
        score = matrix[chosen, other]
        if np.isnan(score) and not directed:
            score = matrix[other, chosen]
        return 0.0 if np.isnan(score) else float(score)

    chosen = []
    left = list(found)
    while left and len(chosen) < limit:
        gains = [
            (1 - diversity) * (score / scale)
            - diversity * max((similarity(other, row) for other, _ in chosen), default=0.0)
            for row, score in left
        ]
        chosen.append(left.pop(gains.index(max(gains))))
    return chosen
