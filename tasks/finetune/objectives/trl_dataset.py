"""Rows of token ids as batches for TRL's trainers: what `render` wrote is what the model is given, token by token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset
from datasets.table import InMemoryTable

from tasks.finetune.step.mfu import Lengths

Row = dict[str, Any]
Batch = dict[str, Any]
Collate = Callable[[list[Row]], Batch]


class TokenRows(Dataset):  # type: ignore[misc]
    """A table of rows that TRL finds ready: whatever it would do to them, they stay as they are."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__(InMemoryTable(table), fingerprint="rendered")

    def map(self, *_: Any, **__: Any) -> TokenRows:
        return self


def count_tokens(table: pa.Table, *columns: str) -> int:
    """Tokens in these columns of all rows."""
    return sum(int(pc.sum(pc.list_value_length(table[name])).as_py() or 0) for name in columns)


def sequence_lengths(table: pa.Table, *answers: str) -> Lengths:
    """Tokens of each prompt with an answer to it, in each of these columns."""
    prompts = pc.list_value_length(table["prompt_ids"]).to_numpy()
    return np.concatenate([prompts + pc.list_value_length(table[name]).to_numpy() for name in answers]).astype(np.int64)


def padded(sequences: Sequence[Sequence[int]], filling: int) -> torch.Tensor:
    """int64 [sequences, longest], filled up on the right."""
    longest = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[filling] * (longest - len(ids))] for ids in sequences])


def completed(prompts: Sequence[list[int]], answers: Sequence[list[int]], filling: int, prefix: str = "") -> Batch:
    """Prompts and an answer to each.

    Returns:
        input_ids, attention_mask, completion_mask (1 where the answer is): int64 [rows, longest].
    """
    both = list(zip(prompts, answers, strict=True))
    return {
        f"{prefix}input_ids": padded([prompt + answer for prompt, answer in both], filling),
        f"{prefix}attention_mask": padded([[1] * len(prompt + answer) for prompt, answer in both], 0),
        f"{prefix}completion_mask": padded([[0] * len(prompt) + [1] * len(answer) for prompt, answer in both], 0),
    }


def collate_pairs(filling: int) -> Collate:
    """Pairs → a batch of DPOTrainer: the better answers first, then the worse ones."""

    def collate(rows: list[Row]) -> Batch:
        prompts = [row["prompt_ids"] for row in rows]
        answers = [row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
        return {**completed(prompts * 2, answers, filling), "row_ids": [row["row_id"] for row in rows]}

    return collate


def collate_odds(filling: int) -> Collate:
    """Pairs → a batch of ORPOTrainer: input_ids, attention_mask and labels of the better and of the worse answers."""

    def collate(rows: list[Row]) -> Batch:
        batch: Batch = {"row_ids": [row["row_id"] for row in rows]}
        for side in ("chosen", "rejected"):
            made = completed([row["prompt_ids"] for row in rows], [row[f"{side}_ids"] for row in rows], filling)
            is_answer = made.pop("completion_mask") == 1
            labels = {"labels": made["input_ids"].masked_fill(~is_answer, -100)}
            batch |= {f"{side}_{name}": value for name, value in (made | labels).items()}
        return batch

    return collate


def collate_judged(filling: int, others: Sequence[Row] = (), room: int | None = None) -> Collate:
    """Judged answers → a batch of KTOTrainer; against each prompt also stands the answer to the one before it in the batch.

    Args:
        others: rows of which the first other one lends its answer to a row that is alone in its batch.
        room: a prompt with the answer to another is cut there.
    """

    def collate(rows: list[Row]) -> Batch:
        prompts, answers = ([row[name] for row in rows] for name in ("prompt_ids", "answer_ids"))
        lent = [answers[-1], *answers[:-1]]
        if len(rows) == 1:
            lent = [next((row["answer_ids"] for row in others if row["row_id"] != rows[0]["row_id"]), answers[0])]
        if room is not None:
            lent = [answer[: room - len(prompt)] for prompt, answer in zip(prompts, lent, strict=True)]
        return {
            **completed(prompts, answers, filling),
            **completed(prompts, lent, filling, prefix="KL_"),
            "label": torch.tensor([row["desirable"] for row in rows]),
            "row_ids": [row["row_id"] for row in rows],
        }

    return collate


def collate_ranked(filling: int) -> Collate:
    """Pairs → a batch of RewardTrainer: whole sequences, the better ones first."""

    def collate(rows: list[Row]) -> Batch:
        whole = [row["prompt_ids"] + row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
        mask = padded([[1] * len(ids) for ids in whole], 0)
        return {
            "input_ids": padded(whole, filling),
            "attention_mask": mask,
            "row_ids": [row["row_id"] for row in rows],
        }

    return collate
