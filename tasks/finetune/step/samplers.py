"""The order of training rows: shuffled per epoch, optionally grouped by length, and distributed evenly over processes.

The order depends on seed and epoch only, not on the number of processes: these take batches in turn, so that a global batch holds
the same rows for any number of them. Filler rows without a loss make the number of batches divisible by the number of processes.
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
"""Examples are sorted by length within random groups of this many batches, so that batches differ between epochs."""


class SingleExamples(PackedRows):
    """The single examples of a split; item i is example i as a packed row of its own."""

    def __init__(self, rendered: Rendered, learns_all: bool = False) -> None:
        alone = np.arange(len(rendered.packs), dtype=np.int64)
        super().__init__(
            Rendered(rendered.input_ids, rendered.loss_mask, rendered.examples, alone, rendered.ids), learns_all
        )

    @property
    def lengths(self) -> np.ndarray[Any, Any]:
        """Tokens of each example: int64 [examples]."""
        return np.diff(self.rendered.examples)


class RowsWithFillers(Dataset[Batch]):  # type: ignore[misc]
    """The rows of a dataset; index -1 - i is row i without a loss, as a filler."""

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


class RowSampler(Sampler[int]):  # type: ignore[misc]
    """The indices of the rows in training order; see the module.

    Args:
        rows: number of rows.
        batch_rows: rows in one forward pass of one process.
        processes: number of processes that share the batches.
        seed: of the shuffling; None keeps the order.
        lengths: [rows]; if set, rows of similar length share a batch.
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
        return self.rows + self._filler_count()

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed((self.seed or 0) + self.epoch)  # the same order as transformers' for one process
        order = list(range(self.rows)) if self.seed is None else torch.randperm(self.rows, generator=generator).tolist()
        if self.lengths is not None:
            order = self._by_length(order, self.lengths, generator)
        yield from order
        yield from [-1 - order[0]] * self._filler_count() if order else []

    def _filler_count(self) -> int:
        return 0 if self.processes == 1 else -self.rows % (self.batch_rows * self.processes)

    def _by_length(self, order: list[int], lengths: np.ndarray[Any, Any], generator: torch.Generator) -> list[int]:
        """Sorts each group longest first, then shuffles the batches; an incomplete batch comes last."""
        group_rows = len(order) if self.seed is None else BATCHES_SORTED_AT_ONCE * self.batch_rows
        grouped: list[int] = []
        for first in range(0, len(order), max(group_rows, 1)):
            grouped += sorted(order[first : first + group_rows], key=lambda row: -int(lengths[row]))
        if self.seed is None:
            return grouped
        batches = [grouped[first : first + self.batch_rows] for first in range(0, len(grouped), self.batch_rows)]
        complete = [batch for batch in batches if len(batch) == self.batch_rows]
        shuffled = [complete[index] for index in torch.randperm(len(complete), generator=generator).tolist()]
        return [row for batch in [*shuffled, *batches[len(complete) :]] for row in batch]
