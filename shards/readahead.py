"""Pages of files read before they are asked for, so that the disk works while others do; where the system can."""

from __future__ import annotations

import mmap
import os
import time
from collections.abc import Iterable
from pathlib import Path

_PIECE = 8 << 20
_PAUSE = 0.004  # after each, so that whatever else starts finds the disk free: 2 GB/s at most
_WILL_NEED: int | None = getattr(mmap, "MADV_WILLNEED", None)


def advise(mapped: mmap.mmap, start: int, size: int) -> None:
    """Have these bytes of a map read; returns at once."""
    if _WILL_NEED is not None and size > 0:
        page = start - start % mmap.PAGESIZE
        mapped.madvise(_WILL_NEED, page, min(start + size, len(mapped)) - page)


def read_ahead(paths: Iterable[Path], most: int) -> None:
    """Have files read into the page cache, in their order, up to so many bytes; one that cannot be read is left out."""
    if not hasattr(os, "posix_fadvise"):
        return
    for path in paths:
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except OSError:
            continue
        try:
            size = min(os.fstat(descriptor).st_size, most)
            for start in range(0, size, _PIECE):
                os.posix_fadvise(descriptor, start, min(_PIECE, size - start), os.POSIX_FADV_WILLNEED)
                time.sleep(_PAUSE)
            most -= size
        finally:
            os.close(descriptor)
