"""In which order rows are trained: shuffled an epoch, grouped by length or not, and shared out evenly among processes.

The order follows from seed and epoch alone, not from the number of processes: they take its batches in turn, so that a global
batch holds the same rows however many share it. What is missing for a whole round is filled up with rows that teach nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from tasks.dataset.rendered import Rendered
from tasks.finetune.step.packed_attention import Batch, PackedRows

BATCHES_SORTED_AT_ONCE = 50
"""Of so many batches' examples, drawn at random, those of similar length go together: still another mix in each epoch."""


class Examples(PackedRows):
    """The examples of a split one by one; item i is example i as a packed row of its own."""

    def __init__(self, rendered: Rendered, learns_all: bool = False) -> None:
        alone = np.arange(len(rendered.packs), dtype=np.int64)
        super().__init__(
            Rendered(rendered.input_ids, rendered.loss_mask, rendered.examples, alone, rendered.ids), learns_all
        )

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each example: int64 [examples]."""
        return np.diff(self.rendered.examples)


class EvenRows(Dataset[Batch]):  # type: ignore[misc]
    """The rows of a dataset; at -1 - i stands row i without anything to learn, to fill up what is missing."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Batch:
        if index >= 0:
            row: Batch = self.rows[index]
            return row
        row = dict(self.rows[-1 - index])
        row["loss_mask"] = np.zeros_like(row["loss_mask"])
        return {name: value[:0] if name.startswith("soft_") else value for name, value in row.items()}


class RowOrder(Sampler[int]):  # type: ignore[misc]
    """The places of the rows in the order in which they are taken; see the module.

    Args:
        rows: how many there are.
        batch_rows: rows in one forward pass of one process.
        processes: how many share the batches out.
        seed: of the shuffling; None leaves them as they are.
        lengths: [rows]; where given, rows of similar length share a batch.
    """

    def __init__(
        self, rows: int, batch_rows: int, processes: int, seed: int | None, lengths: np.ndarray[Any, Any] | None = None
    ) -> None:
        self.rows, self.batch_rows, self.processes, self.seed = rows, batch_rows, processes, seed
        self.lengths = lengths
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.rows + self._missing()

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed((self.seed or 0) + self.epoch)  # as transformers' own order for one process
        order = list(range(self.rows)) if self.seed is None else torch.randperm(self.rows, generator=generator).tolist()
        if self.lengths is not None:
            order = self._by_length(order, self.lengths, generator)
        yield from order
        yield from [-1 - order[0]] * self._missing() if order else []

    def _missing(self) -> int:
        return 0 if self.processes == 1 else -self.rows % (self.batch_rows * self.processes)

    def _by_length(self, order: list[int], lengths: np.ndarray[Any, Any], generator: torch.Generator) -> list[int]:
        """Longest first within what is sorted at once; batches are then shuffled, the one that is not full comes last."""
        at_once = len(order) if self.seed is None else BATCHES_SORTED_AT_ONCE * self.batch_rows
        grouped: list[int] = []
        for first in range(0, len(order), max(at_once, 1)):
            grouped += sorted(order[first : first + at_once], key=lambda row: -int(lengths[row]))
        if self.seed is None:
            return grouped
        batches = [grouped[first : first + self.batch_rows] for first in range(0, len(grouped), self.batch_rows)]
        whole = [batch for batch in batches if len(batch) == self.batch_rows]
        shuffled = [whole[place] for place in torch.randperm(len(whole), generator=generator).tolist()]
        return [row for batch in [*shuffled, *batches[len(whole) :]] for row in batch]
