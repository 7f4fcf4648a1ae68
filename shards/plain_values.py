"""Ids and values as JSON can carry them to any reader."""

from __future__ import annotations

from typing import TypeVar

V = TypeVar("V")

SAFE_INTEGER = 2**53


def plain_id(value: V) -> V | str:
    """An id or a value for JSON: an integer beyond 2^53, which many readers would round, as text."""
    return str(value) if isinstance(value, int) and abs(value) > SAFE_INTEGER else value
