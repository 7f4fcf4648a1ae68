"""Errors as HTTP problems (RFC 9457), and problems as errors again."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from simshard.shards.errors import (
    DeadlineExceeded,
    InvalidFilter,
    InvalidQuery,
    NotReady,
    ShardUnavailable,
    SimshardError,
    SnapshotGone,
    SnapshotNotFound,
    StoreError,
    StoreReadOnly,
    UnknownItem,
)

STATUS: tuple[tuple[type[SimshardError], int, str], ...] = (
    (InvalidQuery, 422, "Invalid request"),
    (UnknownItem, 404, "Unknown item"),
    (SnapshotGone, 409, "Snapshot gone"),
    (NotReady, 503, "Not ready"),
    (ShardUnavailable, 503, "Shard unavailable"),
    (DeadlineExceeded, 504, "Deadline exceeded"),
    (SnapshotNotFound, 404, "Unknown snapshot"),
    (StoreReadOnly, 403, "Read-only store"),
    (StoreError, 500, "Store at fault"),
)


class Problem(BaseModel):
    """RFC 9457 problem details; `field` names the part of the request at fault.

    attributes: those that the items have, with their types, where a filter is at fault.
    """

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    field: str | None = None
    attributes: dict[str, str] | None = None


def problem_of(error: SimshardError) -> dict[str, Any]:
    """The body of a Problem: what went wrong, where in the request, and the status that says so."""
    for kind, status, title in STATUS:
        if isinstance(error, kind):
            body = {"type": "about:blank", "title": title, "status": status, "detail": str(error)}
            field, attributes = getattr(error, "field", None), getattr(error, "attributes", None)
            return (
                body
                | ({"field": field} if field else {})
                | ({"attributes": attributes} if attributes is not None else {})
            )
    detail = "the service could not answer; its log says why"
    return {"type": "about:blank", "title": "Internal error", "status": 500, "detail": detail}


def error_of(problem: Problem) -> SimshardError:
    """The error that a problem tells of: what `problem_of` was given."""
    kind = next((kind for kind, _, title in STATUS if title == problem.title), SimshardError)
    if not issubclass(kind, InvalidQuery):
        return kind(problem.detail)
    field = problem.field or "body"
    message = problem.detail.removeprefix(f"{field}: ")
    if problem.attributes is not None:
        return InvalidFilter(field, message, problem.attributes)
    return kind(field, message)
