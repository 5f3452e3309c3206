"""How surprised a model is by the answers of the validation rows: the loss of their tokens, an example at a time."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base.heads import context_length_of
from tasks.dataset.rendered import Rendered

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]
"""Token ids and loss mask."""
Loss = tuple[float, int]
"""Summed negative log likelihood (nats) of the answer's tokens, and how many they are."""

TOKENS_AT_ONCE = 1024
"""Padded tokens in one forward pass: the logits of 1,024 tokens over 150,000 words are 0.6 GB."""


def examples_of(rendered: Rendered) -> list[Example]:
    """The examples of packed rows, one by one."""
    ends = rendered.examples
    return [
        (np.asarray(rendered.input_ids[first:last]), np.asarray(rendered.loss_mask[first:last]))
        for first, last in itertools.pairwise(ends)
    ]


def example_of(ids: Sequence[int], prompt_tokens: int) -> Example:
    """The tokens, of which those after the prompt are counted."""
    mask = np.ones(len(ids), np.uint8)
    mask[:prompt_tokens] = 0
    return np.asarray(ids, np.int32), mask


def answer_losses(model: Any, examples: Sequence[Example], on_batch: Callable[[int], None] | None = None) -> list[Loss]:
    """The loss of each example. Padding stands on the right, where a causal model does not look back at it."""
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i][0]), i))
    losses: list[Loss] = [(0.0, 0)] * len(examples)
    start = 0
    while start < len(order):
        size = 1
        # sorted by length, so the last one of a batch is its width
        while start + size < len(order) and (size + 1) * len(examples[order[start + size]][0]) <= TOKENS_AT_ONCE:
            size += 1
        chosen = order[start : start + size]
        for i, loss in zip(chosen, _batch_losses(model, [examples[i] for i in chosen]), strict=True):
            losses[i] = loss
        start += size
        if on_batch is not None:
            on_batch(size)
    return losses


def perplexity(losses: Sequence[Loss]) -> float | None:
    """exp of the mean loss a token; None where there is no token."""
    tokens = sum(count for _, count in losses)
    # 700 nats a token is past what a float can hold
    return math.exp(min(sum(loss for loss, _ in losses) / tokens, 700.0)) if tokens else None


def reads_at_once(model: Any) -> int | None:
    """The most tokens of text that the model can be given; None where it does not say."""
    positions = context_length_of(model.config)
    return None if positions is None else positions - _virtual_tokens(model)


def _virtual_tokens(model: Any) -> int:
    """How many places of the model a learned prompt or prefix takes, before any text."""
    return int(model.active_peft_config.num_virtual_tokens) if _is_prompted(model) else 0


def _is_prompted(model: Any) -> bool:
    return hasattr(model, "get_base_model") and bool(model.active_peft_config.is_prompt_learning)


def _batch_losses(model: Any, examples: list[Example]) -> list[Loss]:
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(ids) for ids, _ in examples)
    ids = torch.zeros((len(examples), width), dtype=torch.long)
    attention, wanted = torch.zeros_like(ids), torch.zeros((len(examples), width), dtype=torch.bool)
    for place, (tokens, mask) in enumerate(examples):
        ids[place, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        attention[place, : len(tokens)] = 1
        wanted[place, : len(tokens)] = torch.from_numpy(mask.astype(bool))
    wanted = wanted[:, 1:]  # a token is predicted from the place before it
    places = wanted.any(dim=0).nonzero().squeeze(1)
    if not len(places):
        return [(0.0, 0)] * len(examples)
    with torch.inference_mode():
        logits = _logits(model, ids.to(model.device), attention.to(model.device), places.to(model.device))
        targets = ids[:, 1:][:, places].to(model.device)
        losses = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets).cpu()
    counted = wanted[:, places]
    sums = (losses.double() * counted).sum(dim=1)
    return list(zip(sums.tolist(), counted.sum(dim=1).tolist(), strict=True))


def _logits(model: Any, ids: Any, attention: Any, places: Any) -> Any:
    """Logits at `places` only: those of every place over the vocabulary would take most of the time and memory."""
    # a learned prompt stands before the tokens and has logits too; a prefix stands in the cache of keys and values
    if _is_prompted(model) and model.active_peft_config.peft_type != "PREFIX_TUNING":
        places = places + _virtual_tokens(model)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        return model(input_ids=ids, attention_mask=attention, logits_to_keep=places, use_cache=False).logits
    return model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, places]
