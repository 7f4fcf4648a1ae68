"""Memory that is free inside this process, given back to the system."""

from __future__ import annotations

import asyncio
import ctypes
from contextlib import suppress

import pyarrow as pa

_SOON = 2.0


def release() -> None:
    """Return what the allocators of Arrow and the C library keep for later. Takes some milliseconds, not the GIL."""
    pa.default_memory_pool().release_unused()
    with suppress(OSError, AttributeError):  # glibc's own
        ctypes.CDLL(None).malloc_trim(0)


class Releasing:
    """Releases memory a moment after the last large question, so that one behind another finds it there."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def soon(self) -> None:
        """Release once nothing large was asked for `_SOON` seconds. Needs a running event loop."""
        if self._timer is not None:
            self._timer.cancel()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SOON, lambda: loop.run_in_executor(None, release))
