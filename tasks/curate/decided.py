"""The decisions on a batch's rows, and on earlier rows because of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Change:
    """An earlier row that this batch removes from the dataset."""

    batch: int
    """Index of its batch in the order of batches."""
    index: int
    """Its index in the batch."""
    by: str
    """Id of the row that replaces it."""
    reason: str
    split: str
    """Its former split."""


@dataclass
class Decided:
    """The decisions on a batch's rows; each list has one value per row."""

    reason: list[str]
    """The reason code, or "" for a kept row."""
    field: list[str]
    """The field at fault."""
    value: list[str]
    """The id of another row, or the offending text."""
    split: npt.NDArray[np.int8]
    """Index in SPLITS."""
    representative: list[str]
    """The id of the earlier row whose split it took (its cluster representative), or ""."""
    changes: list[Change]
