"""What becomes of a batch's rows, and of earlier rows because of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Change:
    """An earlier row that this batch takes out of the dataset."""

    batch: int
    """Place of its batch in the order of batches."""
    index: int
    """Its place in the batch."""
    by: str
    """Id of the row that it makes way for."""
    reason: str
    side: str
    """Where it stood."""


@dataclass
class Decided:
    """What becomes of a batch's rows, a value each."""

    reason: list[str]
    """Why it was dropped, or ""."""
    field: list[str]
    """The field at fault."""
    value: list[str]
    """What it was dropped for: the id of another row, or the offending text."""
    side: npt.NDArray[np.int8]
    """Place in SIDES."""
    leader: list[str]
    """The id of the earlier row whose side it took, or ""."""
    changes: list[Change]
