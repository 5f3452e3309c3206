"""Faults of an engine as one-line errors for the user."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from tasks.errors import BaseModelError
from tasks.inference.engine import LogitsNotFinite, MemoryExhausted

ALLOCATION_FAILED = "can't allocate memory"
"""Part of torch's message when a CPU's memory is exhausted."""


@contextmanager
def reported_faults(model: str, *, where: str, memory_fix: str, nan_fix: str) -> Iterator[None]:
    """Raises BaseModelError where `model` (a name for the message) runs out of memory or computes NaN."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        what = f"the GPU's memory is not enough for {model}"
        raise BaseModelError(what, where=where, fix=memory_fix) from error
    except (MemoryExhausted, MemoryError) as error:
        what = f"a process that ran {model} was killed, most likely because memory ran out"
        raise BaseModelError(
            what, where=where, fix=f"{memory_fix}, then run again: finished answers are kept"
        ) from error
    except RuntimeError as error:
        if ALLOCATION_FAILED not in str(error):
            raise
        raise BaseModelError(f"the memory is not enough for {model}", where=where, fix=memory_fix) from error
    except LogitsNotFinite as error:
        raise BaseModelError(
            f"{model} computes NaN or infinity, so it has no answers", where=where, fix=nan_fix
        ) from error
