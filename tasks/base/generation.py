"""Batched greedy generation: token prompts in, answers out, in the same order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tasks.scoring.thoughts import THOUGHT_BEGINS, THOUGHT_ENDS


class Answer(NamedTuple):
    """A generated answer."""

    text: str
    is_cut: bool
    """Whether it reached the token limit without an end token."""


def generate_answers(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    batch_rows: int,
    on_batch: Callable[[int], None] | None = None,
) -> list[Answer]:
    """Answers of `model` to `prompts` (token ids), greedily, without special tokens and outer white space.

    Prompts are sorted by length, so that a batch has little padding, and padded on the left. `on_batch` is called with the number
    of rows of each finished batch.
    """
    import torch

    read, ends = answer_reader(tokenizer), end_token_ids(model, tokenizer)
    order = sorted(range(len(prompts)), key=lambda i: (-len(prompts[i]), i))
    answers = [Answer("", is_cut=False)] * len(prompts)
    for start in range(0, len(order), batch_rows):
        batch = order[start : start + batch_rows]
        width = max(len(prompts[i]) for i in batch)
        ids = torch.full((len(batch), width), tokenizer.pad_token_id, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(batch):
            ids[row, width - len(prompts[i]) :] = torch.tensor(list(prompts[i]), dtype=torch.long)
            mask[row, width - len(prompts[i]) :] = 1
        with torch.inference_mode():
            out = model.generate(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                max_new_tokens=max_new_tokens,
                do_sample=False,
                temperature=None,
                top_p=None,
                top_k=None,
                pad_token_id=tokenizer.pad_token_id,
                eos_token_id=ends,
            )
        for i, tokens in zip(batch, out[:, width:].tolist(), strict=True):
            answers[i] = Answer(read(tokens), is_cut=set(ends).isdisjoint(tokens))
        if on_batch is not None:
            on_batch(len(batch))
    return answers


def answer_reader(tokenizer: Any) -> Callable[[Sequence[int]], str]:
    """A decoder of answers: without special tokens and outer white space, but with the tags of a thought, which answer parsing
    needs."""
    special = {number: token.content for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    dropped = {number for number, content in special.items() if content not in (THOUGHT_BEGINS, THOUGHT_ENDS)}

    def read(ids: Sequence[int]) -> str:
        if len(dropped) == len(special):
            return str(tokenizer.decode(ids, skip_special_tokens=True)).strip()
        return str(tokenizer.decode([number for number in ids if number not in dropped])).strip()

    return read


def end_token_ids(model: Any, tokenizer: Any) -> list[int]:
    """Every token at which an answer ends: the tokenizer's end token and those of the model's generation config."""
    configured = model.generation_config.eos_token_id
    more = configured if isinstance(configured, list) else [configured]
    return sorted({int(i) for i in (tokenizer.eos_token_id, *more) if i is not None})
