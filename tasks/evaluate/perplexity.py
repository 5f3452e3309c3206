"""The loss of a model on the answers of the validation rows, per example, and its perplexity."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.base.heads import is_prompted, virtual_tokens
from tasks.base.heads import max_input_tokens as max_input_tokens
from tasks.dataset.rendered import Rendered
from tasks.inference.engine import LogitsNotFinite

Example = tuple[npt.NDArray[np.int32], npt.NDArray[np.uint8]]
"""Token ids and loss mask."""
Loss = tuple[float, int]
"""Sum of negative log likelihoods (nats) of the answer's tokens, and their number."""

TOKENS_AT_ONCE = 1024
"""Padded tokens in one forward pass: the logits of 1,024 tokens over 150,000 words are 0.6 GB."""


def examples_of(rendered: Rendered) -> list[Example]:
    """The single examples of packed rows."""
    ends = rendered.examples
    return [
        (np.asarray(rendered.input_ids[first:last]), np.asarray(rendered.loss_mask[first:last]))
        for first, last in itertools.pairwise(ends)
    ]


def example_of(ids: Sequence[int], prompt_tokens: int) -> Example:
    """An example whose loss covers the tokens after the prompt."""
    mask = np.ones(len(ids), np.uint8)
    mask[:prompt_tokens] = 0
    return np.asarray(ids, np.int32), mask


def answer_losses(model: Any, examples: Sequence[Example], on_batch: Callable[[int], None] | None = None) -> list[Loss]:
    """The loss of each example. Padding is on the right, where a causal model does not attend to it.

    Raises:
        LogitsNotFinite: the model computes NaN or infinity: a loss without a value would be a score without one.
    """
    order = sorted(range(len(examples)), key=lambda i: (len(examples[i][0]), i))
    losses: list[Loss] = [(0.0, 0)] * len(examples)
    start = 0
    while start < len(order):
        size = 1
        # sorted by length, so the last example of a batch sets its width
        while start + size < len(order) and (size + 1) * len(examples[order[start + size]][0]) <= TOKENS_AT_ONCE:
            size += 1
        batch = order[start : start + size]
        for i, loss in zip(batch, _batch_losses(model, [examples[i] for i in batch]), strict=True):
            losses[i] = loss
        if not all(math.isfinite(losses[i][0]) for i in batch):
            raise LogitsNotFinite
        start += size
        if on_batch is not None:
            on_batch(size)
    return losses


def perplexity(losses: Sequence[Loss]) -> float | None:
    """exp of the mean loss per token; None without tokens."""
    tokens = sum(count for _, count in losses)
    # exp(710) overflows a float
    return math.exp(min(sum(loss for loss, _ in losses) / tokens, 700.0)) if tokens else None


def token_losses(model: Any, examples: list[Example]) -> list[list[float]]:
    """The loss of each answer token of each example, in one forward pass."""
    losses, counted = _losses(model, examples)
    return [row[mask].tolist() for row, mask in zip(losses, counted, strict=True)]


def _batch_losses(model: Any, examples: list[Example]) -> list[Loss]:
    losses, counted = _losses(model, examples)
    sums = (losses.double() * counted).sum(dim=1)
    return list(zip(sums.tolist(), counted.sum(dim=1).tolist(), strict=True))


def _losses(model: Any, examples: list[Example]) -> tuple[Any, Any]:
    """(examples, positions): the loss of each token, and whether it counts; only positions where one counts."""
    import torch
    from torch.nn.functional import cross_entropy

    width = max(len(ids) for ids, _ in examples)
    ids = torch.zeros((len(examples), width), dtype=torch.long)
    attention, counts_loss = torch.zeros_like(ids), torch.zeros((len(examples), width), dtype=torch.bool)
    for index, (tokens, mask) in enumerate(examples):
        ids[index, : len(tokens)] = torch.from_numpy(tokens.astype(np.int64))
        attention[index, : len(tokens)] = 1
        counts_loss[index, : len(tokens)] = torch.from_numpy(mask.astype(bool))
    counts_loss = counts_loss[:, 1:]  # a token is predicted from the position before it
    positions = counts_loss.any(dim=0).nonzero().squeeze(1)
    if not len(positions):
        return torch.zeros((len(examples), 0)), torch.zeros((len(examples), 0), dtype=torch.bool)
    with torch.inference_mode():
        logits = _logits(model, ids.to(model.device), attention.to(model.device), positions.to(model.device))
        targets = ids[:, 1:][:, positions].to(model.device)
        losses = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none").view_as(targets).cpu()
    return losses, counts_loss[:, positions]


def _logits(model: Any, ids: Any, attention: Any, positions: Any) -> Any:
    """Logits at `positions` only: the logits of all positions would take most of the time and memory."""
    # a learned prompt precedes the tokens and has logits too; a prefix is in the key-value cache
    if is_prompted(model) and model.active_peft_config.peft_type != "PREFIX_TUNING":
        positions = positions + virtual_tokens(model)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    if "logits_to_keep" in inspect.signature(inner.forward).parameters:
        return model(input_ids=ids, attention_mask=attention, logits_to_keep=positions, use_cache=False).logits
    return model(input_ids=ids, attention_mask=attention, use_cache=False).logits[:, positions]
