"""Several processes share the global batches of one process."""

from __future__ import annotations

import numpy as np
import pytest

from tasks.finetune.step.samplers import RowSampler, RowsWithFillers


@pytest.mark.parametrize("rows", [7, 8, 9, 1])
@pytest.mark.parametrize("by_length", [False, True])
def test_processes_use_each_row_once_per_epoch_with_the_global_batches_of_one_process(
    rows: int, by_length: bool
) -> None:
    lengths = np.random.default_rng(0).integers(1, 99, rows) if by_length else None
    alone, shared = RowSampler(rows, 2, 1, 5, lengths), RowSampler(rows, 2, 2, 5, lengths)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        order = list(shared)
        assert sorted(row for row in order if row >= 0) == list(range(rows))
        assert [row for row in order if row >= 0] == list(alone)
        assert len(order) == len(shared)
        assert len(order) % 4 == 0
    if rows > 2:
        assert list(RowSampler(rows, 2, 1, 6, lengths)) != list(RowSampler(rows, 2, 1, 5, lengths))


def test_filler_rows_have_no_loss() -> None:
    rows = [
        {
            "input_ids": np.arange(3),
            "loss_mask": np.ones(3),
            "lengths": np.array([3]),
            "row": 0,
            "soft_ids": np.ones((3, 2)),
        }
    ]
    filler = RowsWithFillers(rows)[-1]
    assert filler["loss_mask"].sum() == 0
    assert filler["soft_ids"].shape == (0, 2)
    assert rows[0]["loss_mask"].sum() == 3
