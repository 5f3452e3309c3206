"""Answers of a model with a head: the probabilities of labels, or a reward. Each is computed alone."""

from __future__ import annotations

import math
from typing import Any

import torch

from tasks.base.heads import REWARD, max_input_tokens
from tasks.serve.engine.request import EngineFailed, Finished

TILE = 8
"""Tokens are padded to a multiple of it: for fewer, BLAS chooses kernels that sum in another order."""


def head_answer(model: Any, labels: tuple[str, ...], ids: list[int]) -> Finished:
    """The answer to one input.

    Raises:
        EngineFailed: the model computes NaN.
    """
    logits = _logits(model, ids)
    if not all(math.isfinite(value) for value in logits):
        raise EngineFailed("the model computed NaN or infinity")
    if labels == REWARD:
        return Finished(0, "stop", "", 0, value=logits[0], scores={"reward": logits[0]})
    probabilities = torch.tensor(logits).softmax(0).tolist()
    scores = dict(sorted(zip(labels, probabilities, strict=True), key=lambda pair: -pair[1]))
    label = next(iter(scores))
    return Finished(0, "stop", label, 0, value=label, scores=scores)


def _logits(model: Any, ids: list[int]) -> list[float]:
    padding = min(-len(ids) % TILE, (max_input_tokens(model) or 1 << 30) - len(ids))
    tokens = torch.tensor([[*ids, *[model.config.pad_token_id or 0] * padding]], device=model.device)
    mask = torch.tensor([[1] * len(ids) + [0] * padding], device=model.device)
    with torch.inference_mode():
        logits = model(input_ids=tokens, attention_mask=mask).logits
    values: list[float] = logits[0].float().tolist()
    return values
