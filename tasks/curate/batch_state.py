"""The state while a batch is decided, and the decisions on its rows and, because of it, on earlier rows. Pure but for the texts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.dedup.index import Indices
from tasks.curate.dedup.known import BENCHMARK, GOLDEN, NO_SPLIT, SPLITS, TRAIN, RowTable
from tasks.curate.dedup.shared_text import RowTexts
from tasks.curate.dedup.sketch_file import Signatures
from tasks.curate.filters import NOTHING_LEFT
from tasks.curate.settings import CurateSettings


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


class BatchState:
    """One batch, whose rows are appended to the table.

    Args:
        table: the rows of all batches before.
        signatures: the batch's rows.
        source: the batch's source.
        released: (rows,) accepted by a person: no filter drops them.
        is_tombstone: (rows,) forgotten rows: they pin the split of their duplicates, but are not in the dataset.
        texts: reads the texts of some rows of the table.
        pinned: (rows,) the split that a row keeps because the row that it took it from was erased; "" for most.
    """

    def __init__(
        self,
        table: RowTable,
        signatures: Signatures,
        source: str,
        settings: CurateSettings,
        released: npt.NDArray[np.bool_],
        is_tombstone: npt.NDArray[np.bool_],
        texts: Callable[[Indices], list[RowTexts]],
        pinned: Sequence[str],
    ) -> None:
        self.table = table
        self.signatures = signatures
        self.settings = settings
        self.released = released
        self.texts = texts
        facts = signatures.facts
        reasons = zip(facts["reason"].to_pylist(), released, strict=True)
        self.reason: list[str] = ["" if freed and reason != NOTHING_LEFT else reason for reason, freed in reasons]
        """(rows,) the reason code, or "" for a kept row."""
        self.field: list[str] = facts["field"].to_pylist()
        """(rows,) the field at fault."""
        self.value: list[str] = facts["value"].to_pylist()
        """(rows,) the id of another row, or the offending text."""
        self.representative = [""] * len(self.reason)
        """(rows,) the id of the earlier row whose split it took (its cluster representative), or ""."""
        self.synthetic = facts["is_synthetic"].to_numpy()
        self.served = facts["is_served"].to_numpy()
        self.first_new = table.first_new
        table.append(signatures, source, self._initial_splits(pinned), is_tombstone)
        self.pins = {self.first_new + number: SPLITS.index(split) for number, split in enumerate(pinned) if split}
        """New rows with a pinned split, → that split."""
        self.links: list[tuple[int, int]] = []
        """An earlier row and a new one that belong in one split."""
        self.overlaps: list[tuple[int, int]] = []
        """A golden or benchmark row, and another row that is near it or shares text with it."""
        self.changes: dict[int, Change] = {}

    def _initial_splits(self, pinned: Sequence[str]) -> list[int]:
        names = ("split", "use", "is_synthetic")
        facts = zip(*(self.signatures.facts[name].to_pylist() for name in names), strict=True)
        splits = [_split_alone(*values) for values in facts]
        for number, split in enumerate(pinned):
            if split:
                splits[number] = SPLITS.index(split)
        return [NO_SPLIT if reason else split for split, reason in zip(splits, self.reason, strict=True)]

    def id_of(self, row: int) -> str:
        return self.table.row_id(row)

    def is_released(self, row: int) -> bool:
        """Args: row: a new one."""
        return bool(self.released[row - self.first_new])

    def drop(self, row: int, reason: str, value: str, field: str = "input") -> None:
        """Drops a new row."""
        number = row - self.first_new
        self.reason[number], self.field[number], self.value[number] = reason, field, value
        self.table.split[row] = NO_SPLIT

    def remove(self, row: int, by: int, reason: str) -> None:
        """Drops a row in favour of another; one of an earlier batch by a `Change` of this batch."""
        if row >= self.first_new:
            self.drop(row, reason, self.id_of(by))
            return
        entry = self.table.rows[row]
        split = SPLITS[int(entry["split"])]
        change = Change(int(entry["batch"]), int(entry["index"]), self.id_of(by), reason, split)
        self.changes.setdefault(row, change)
        self.table.remove(row)

    @property
    def split(self) -> npt.NDArray[np.int8]:
        """(rows,) an index into SPLITS."""
        return self.table.split[self.first_new :]

    @property
    def is_tombstone(self) -> npt.NDArray[np.bool_]:
        return self.table.is_tombstone[self.first_new :]


def _split_alone(split: str, use: str, is_synthetic: Any) -> int:
    """The split of a row that no other row determines."""
    if use == "golden":
        return GOLDEN
    if use == "benchmark":
        return BENCHMARK
    return TRAIN if is_synthetic else SPLITS.index(split)
