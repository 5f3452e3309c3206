"""Sampled answers of a model in this process, in batches. Evaluation samples for pass@k only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from tasks.base.generation import Answer, answer_reader, end_token_ids
from tasks.inference.batches import generate_batch
from tasks.inference.engine import OnAnswers


def sample_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    rows: int,
    seed: int,
    positions: int | None,
    sampling: dict[str, float],
    on_answers: OnAnswers,
) -> None:
    """Samples an answer to each prompt. `on_answers` gets those of a batch as soon as they are there.

    Args:
        rows: rows of a batch; longer prompts come first.
        positions: the context of the model; None: no limit.
        sampling: temperature and top_p.
    """
    read, ends = answer_reader(tokenizer), end_token_ids(model, tokenizer)
    order = sorted(range(len(prompts)), key=lambda index: (-len(prompts[index]), index))
    for start in range(0, len(order), rows):
        batch = order[start : start + rows]
        longest = prompts[batch[0]]
        # the seed depends on the prompt, so that a resumed recipe samples the same answers as an uninterrupted one
        torch.manual_seed(hash((seed, *longest)) & 0x7FFFFFFF)
        room = max_new_tokens if positions is None else min(max_new_tokens, positions - len(longest))
        answers = generate_batch(
            model, [prompts[index] for index in batch], room, ends=ends, padding=tokenizer.pad_token_id,
            sampling={"do_sample": True, "top_k": 0, **sampling},
        )  # fmt: skip
        on_answers(
            {
                index: Answer(read(tokens), is_cut=set(ends).isdisjoint(tokens))
                for index, tokens in zip(batch, answers, strict=True)
            }
        )
