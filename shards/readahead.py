"""Pages of files read before they are asked for, so that the disk works while others do; where the system can."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_PIECE = 8 << 20
_PAUSE = 0.004  # after each, so that whatever else starts finds the disk free: 2 GB/s at most


def advise(descriptor: int, start: int, size: int) -> None:
    """Have these bytes of a file read; other threads go on meanwhile. Nothing depends on it."""
    if hasattr(os, "posix_fadvise"):
        with suppress(OSError):
            os.posix_fadvise(descriptor, start, size, os.POSIX_FADV_WILLNEED)


def read_ahead(paths: Iterable[Path], most: int) -> None:
    """Have files read into the page cache, in their order, up to so many bytes; one that cannot be read is left out."""
    for path in paths:
        with suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY)
            try:
                size = min(os.fstat(descriptor).st_size, most)
                most -= size
                for start in range(0, size, _PIECE):
                    advise(descriptor, start, min(_PIECE, size - start))
                    time.sleep(_PAUSE)
            finally:
                os.close(descriptor)
