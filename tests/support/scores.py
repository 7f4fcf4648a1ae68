"""What `simshard compute` must store, pair by pair in plain Python."""

import math


def terms_of(value, separator=","):
    """The set of a cell: a list, or text in parts; None where there is none."""
    if value is None:
        return None
    parts = value.split(separator) if isinstance(value, str) else value
    return {
        str(part).strip() for part in parts if part is not None and str(part).strip() not in ("", "UNKNOWN")
    } or None


def similarity(items, spec, a, b):
    """Similarity of items a and b (dicts) in one feature; None where either has no value."""
    x, y = a.get(spec.column), b.get(spec.column)
    if spec.kind == "set":
        x, y = terms_of(x), terms_of(y)
        if x is None or y is None:
            return None
        weights = dict.fromkeys(x | y, 1.0)
        if spec.idf:
            sets = [s for s in (terms_of(item.get(spec.column)) for item in items) if s]
            for term in weights:
                weights[term] = math.log((1 + len(sets)) / (1 + sum(term in s for s in sets))) + 1
        if spec.measure == "jaccard":
            return sum(weights[t] for t in x & y) / sum(weights[t] for t in x | y)
        sizes = [sum(weights[t] ** 2 for t in s) for s in (x, y)]
        return sum(weights[t] ** 2 for t in x & y) / math.sqrt(sizes[0] * sizes[1])
    if x is None or y is None or x in ("", "UNKNOWN") or y in ("", "UNKNOWN"):
        return None
    if spec.kind == "category":
        return float(x == y)
    if spec.kind == "number":
        values = [item[spec.column] for item in items if item.get(spec.column) is not None]
        span = max(values) - min(values)
        return 1.0 if span == 0 else 1 - abs(x - y) / span
    lengths = [math.sqrt(sum(v * v for v in vector)) for vector in (x, y)]
    if 0 in lengths:
        return None
    return sum(v * w for v, w in zip(x, y, strict=True)) / (lengths[0] * lengths[1])


def score(items, specs, a, b):
    """The weighted mean over the features that both have; None where there is none."""
    found = [(spec.weight, similarity(items, spec, a, b)) for spec in specs]
    found = [(weight, value) for weight, value in found if value is not None]
    total = sum(weight for weight, _ in found)
    return sum(weight * value for weight, value in found) / total if found else None
