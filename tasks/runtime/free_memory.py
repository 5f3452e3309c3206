"""Memory that is free already, but not to others."""

from __future__ import annotations

import contextlib
import ctypes


def give_memory_back() -> None:
    """Hands what a step of a long work left behind to the system, where the C library can (glibc), or the next adds to it."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
