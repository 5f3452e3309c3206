"""The rows that a new one is compared with, as arrays: those of earlier batches, then those of the batch at hand. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.curate.sketch_file import Indices, Sketch

SIDES = ("train", "valid", "test", "golden", "benchmark", "")
"""Where a row stands; the last: nowhere, it was dropped. A side is stored as its place here."""
TRAIN, VALID, TEST, GOLDEN, BENCHMARK, NOWHERE = range(6)
HELD_OUT = (TEST, GOLDEN, BENCHMARK)
"""Sides that nothing in training may overlap."""
PROTECTED = (GOLDEN, BENCHMARK)
"""Sides that no collected row joins."""


@dataclass
class Known:
    """Rows in the order in which they came."""

    row_id: pa.ChunkedArray
    batch: npt.NDArray[np.int32]
    """Place of the row's batch in the order of batches."""
    index: Indices
    """The row's place in its batch."""
    key: npt.NDArray[np.uint64]
    key2: npt.NDArray[np.uint64]
    bands: npt.NDArray[np.uint32]
    """(BANDS, rows)."""
    prints: npt.NDArray[np.uint32]
    """Fingerprints of all rows, one row after another."""
    offsets: Indices
    """(rows + 1,): row i has prints[offsets[i]:offsets[i + 1]]."""
    side: npt.NDArray[np.int8]
    is_ghost: npt.NDArray[np.bool_]
    """Not in the dataset any more (forgotten, or of an excluded batch), but others keep the side that they took from it."""

    def __len__(self) -> int:
        return len(self.index)

    def owners_of(self, places: Indices) -> Indices:
        """The rows that hold these of the fingerprints."""
        return np.searchsorted(self.offsets, places, side="right") - 1


def known_of(sketch: Sketch, batch: int, side: Any, is_ghost: Any) -> Known:
    """Rows of one batch, with their sides."""
    return Known(
        row_id=sketch.lines["row_id"],
        batch=np.full(len(sketch), batch, np.int32),
        index=sketch.lines["index"].to_numpy(),
        key=sketch.lines["key"].to_numpy(),
        key2=sketch.lines["key2"].to_numpy(),
        bands=sketch.bands.T,
        prints=sketch.prints,
        offsets=sketch.offsets(),
        side=np.array(side, np.int8),
        is_ghost=np.asarray(is_ghost, np.bool_),
    )


def concatenate(parts: Sequence[Known]) -> Known:
    """The rows of several batches, one after another."""
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    return Known(
        row_id=pa.chunked_array([chunk for part in parts for chunk in part.row_id.chunks], pa.string()),
        batch=np.concatenate([part.batch for part in parts]),
        index=np.concatenate([part.index for part in parts]),
        key=np.concatenate([part.key for part in parts]),
        key2=np.concatenate([part.key2 for part in parts]),
        bands=np.concatenate([part.bands for part in parts], axis=1),
        prints=np.concatenate([part.prints for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(lengths)]),
        side=np.concatenate([part.side for part in parts]),
        is_ghost=np.concatenate([part.is_ghost for part in parts]),
    )
