"""Where long work reports to."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Phases in order, each with units done out of a total (None: not known)."""

    def phase(self, name: str, unit: str, total: int | None) -> None:
        """Begin a phase."""

    def advance(self, units: int) -> None:
        """Report units done since the last call."""


class Quiet:
    """A Progress that tells nobody."""

    def phase(self, name: str, unit: str, total: int | None) -> None:
        """See Progress."""

    def advance(self, units: int) -> None:
        """See Progress."""
