"""What values an attribute has, by plain Python."""

import math
from collections import Counter


def described(name, values, most):
    """What is to be told of the attribute of that name with these values, `most` of them."""
    kind = {"title": "string", "count": "int64", "rating": "float64", "tags": "list<string>"}[name]
    if name == "tags":
        sets = [{each for each in value or () if each is not None} for value in values]
        present, counts = sum(map(bool, sets)), Counter(each for one in sets for each in one)
    else:
        there = [value for value in values if value is not None and not (name == "rating" and not math.isfinite(value))]
        present, counts = len(there), Counter(there)
    number = name in ("count", "rating")
    ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
    listed = [(plain(value), count) for value, count in ordered if number or len(value) <= 200]
    if len(counts) > most if number else name != "tags" and 1 < present == len(counts):
        listed = []
    return {
        "name": name,
        "type": kind,
        "present": present,
        "distinct": len(counts),
        "min": plain(min(counts)) if number and counts else None,
        "max": plain(max(counts)) if number and counts else None,
        "values": [{"value": value, "count": count} for value, count in listed[:most]],
    }


def plain(value):
    return str(value) if isinstance(value, int) and abs(value) > 2**53 else value
