"""What every format of pairs gives: a source, whose pieces workers parse.

A format is one file, with a function that makes a source of a `Stream`, and a line in `pair_formats`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from simshard.ingest.pair_records import Shape
from simshard.ingest.spills import Spilled, Spiller


class PairSource(Protocol):
    """A file of pairs, or stdin, that was recognised by its beginning."""

    @property
    def name(self) -> str:
        """The file as messages call it."""

    @property
    def shape(self) -> Shape:
        """What its records look like; above all, whether ids are integers."""

    @property
    def size(self) -> int | None:
        """Bytes of the file; None where they are not known beforehand."""

    def read(self, spiller: Spiller) -> Iterator[Spilled]:
        """The spills of all its pairs, in order: `spiller.run` for pieces, `spiller.write` for what is parsed here.

        Raises RefusedRecord with the index from the file's first record on, and InputError for any other fault.
        """
