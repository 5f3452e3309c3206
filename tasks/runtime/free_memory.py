"""Returns freed memory to the system."""

from __future__ import annotations

import contextlib
import ctypes


def give_memory_back() -> None:
    """Releases unused memory of Arrow and of the C library (glibc only) to the system, between the steps of a long stage."""
    import pyarrow as pa

    pa.default_memory_pool().release_unused()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
