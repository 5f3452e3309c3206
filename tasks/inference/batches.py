"""Generation by `generate` of transformers, in padded batches: for models that a SlotDecoder does not support, and for sampling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from tasks.inference.engine import LogitsNotFinite

GREEDY: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


def generate_batch(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    *,
    ends: Sequence[int],
    padding: int,
    sampling: dict[str, Any] = GREEDY,
) -> list[list[int]]:
    """The tokens of each answer, up to its end token. Prompts are padded on the left.

    Raises:
        LogitsNotFinite: the model computes NaN.
    """
    width = max(len(prompt) for prompt in prompts)
    ids = torch.full((len(prompts), width), padding, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, width - len(prompt) :] = torch.tensor(list(prompt), dtype=torch.long)
        mask[row, width - len(prompt) :] = 1
    with torch.inference_mode():
        out = model.generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            max_new_tokens=max_new_tokens,
            pad_token_id=padding,
            eos_token_id=list(ends),
            logits_processor=[_require_finite],
            **sampling,
        )
    return [_until_end(tokens, ends) for tokens in out[:, width:].tolist()]


def run_batches(
    model: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    take: Callable[[], int | None],
    emit: Callable[[int, list[int]], None],
    *,
    ends: Sequence[int],
    padding: int,
    rows: int,
    positions: int | None,
) -> None:
    """As SlotDecoder.run, batch by batch."""
    while True:
        batch: list[int] = []
        while len(batch) < rows and (index := take()) is not None:
            batch.append(index)
        if not batch:
            return
        room = (positions or 1 << 30) - max(len(prompts[index]) for index in batch)
        answers = generate_batch(
            model, [prompts[index] for index in batch], min(max_new_tokens, room), ends=ends, padding=padding
        )
        for index, tokens in zip(batch, answers, strict=True):
            emit(index, tokens)


def _require_finite(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
    if not bool(torch.isfinite(scores.max(dim=-1).values).all()):
        raise LogitsNotFinite
    return scores


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """The tokens up to the first end token: what follows is padding."""
    return tokens[: next((place + 1 for place, token in enumerate(tokens) if token in ends), len(tokens))]
