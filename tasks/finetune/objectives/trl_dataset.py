"""Batches of token ids for TRL's trainers: the model gets exactly the tokens that `render` wrote."""

from __future__ import annotations

from collections.abc import Sequence
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


class TokenRows(Dataset):  # type: ignore[misc]
    """A table of tokenized rows; TRL's preprocessing (`map`) does not change them."""

    def __init__(self, table: pa.Table) -> None:
        super().__init__(InMemoryTable(table), fingerprint="rendered")

    def map(self, *_: Any, **__: Any) -> TokenRows:
        return self


def count_tokens(table: pa.Table, *columns: str) -> int:
    """Number of tokens in these columns, over all rows."""
    return sum(int(pc.sum(pc.list_value_length(table[name])).as_py() or 0) for name in columns)


def sequence_lengths(table: pa.Table, *answers: str) -> Lengths:
    """Tokens of each prompt with its answer, for each of these answer columns."""
    prompts = pc.list_value_length(table["prompt_ids"]).to_numpy()
    return np.concatenate([prompts + pc.list_value_length(table[name]).to_numpy() for name in answers]).astype(np.int64)


def padded(sequences: Sequence[Sequence[int]], pad_id: int) -> torch.Tensor:
    """int64 [sequences, longest], padded on the right."""
    longest = max(len(ids) for ids in sequences)
    return torch.tensor([[*ids, *[pad_id] * (longest - len(ids))] for ids in sequences])


def prompts_with_answers(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], pad_id: int, prefix: str = ""
) -> Batch:
    """A batch of prompts with one answer each.

    Returns:
        input_ids, attention_mask, completion_mask (1 for answer tokens): int64 [rows, longest].
    """
    pairs = list(zip(prompts, answers, strict=True))
    return {
        f"{prefix}input_ids": padded([prompt + answer for prompt, answer in pairs], pad_id),
        f"{prefix}attention_mask": padded([[1] * len(prompt + answer) for prompt, answer in pairs], 0),
        f"{prefix}completion_mask": padded([[0] * len(prompt) + [1] * len(answer) for prompt, answer in pairs], 0),
    }


def collate_pairs(rows: list[Row], pad_id: int) -> Batch:
    """Pairs → a batch of DPOTrainer: the better answers first, then the worse ones."""
    prompts = [row["prompt_ids"] for row in rows]
    answers = [row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
    return {**prompts_with_answers(prompts * 2, answers, pad_id), "row_ids": [row["row_id"] for row in rows]}


def collate_odds(rows: list[Row], pad_id: int) -> Batch:
    """Pairs → a batch of ORPOTrainer: input_ids, attention_mask and labels of the better and of the worse answers."""
    batch: Batch = {"row_ids": [row["row_id"] for row in rows]}
    for kind in ("chosen", "rejected"):
        part = prompts_with_answers([row["prompt_ids"] for row in rows], [row[f"{kind}_ids"] for row in rows], pad_id)
        is_answer = part.pop("completion_mask") == 1
        labels = {"labels": part["input_ids"].masked_fill(~is_answer, -100)}
        batch |= {f"{kind}_{name}": value for name, value in (part | labels).items()}
    return batch


def collate_judged(rows: list[Row], pad_id: int, spare_rows: Sequence[Row] = (), limit: int | None = None) -> Batch:
    """Rated answers → a batch of KTOTrainer, which also pairs each prompt with the answer to the previous prompt in the batch.

    Args:
        spare_rows: rows of which the first different one provides the mismatched answer for a batch of one row.
        limit: maximum tokens of a prompt with a mismatched answer; it is truncated there.
    """
    prompts, answers = ([row[name] for row in rows] for name in ("prompt_ids", "answer_ids"))
    mismatched = [answers[-1], *answers[:-1]]
    if len(rows) == 1:
        others = (row["answer_ids"] for row in spare_rows if row["row_id"] != rows[0]["row_id"])
        mismatched = [next(others, answers[0])]
    if limit is not None:
        mismatched = [answer[: limit - len(prompt)] for prompt, answer in zip(prompts, mismatched, strict=True)]
    return {
        **prompts_with_answers(prompts, answers, pad_id),
        **prompts_with_answers(prompts, mismatched, pad_id, prefix="KL_"),
        "label": torch.tensor([row["desirable"] for row in rows]),
        "row_ids": [row["row_id"] for row in rows],
    }


def collate_ranked(rows: list[Row], pad_id: int) -> Batch:
    """Pairs → a batch of RewardTrainer: prompts with answers, the better ones first."""
    sequences = [row["prompt_ids"] + row[name] for name in ("chosen_ids", "rejected_ids") for row in rows]
    return {
        "input_ids": padded(sequences, pad_id),
        "attention_mask": padded([[1] * len(ids) for ids in sequences], 0),
        "row_ids": [row["row_id"] for row in rows],
    }
