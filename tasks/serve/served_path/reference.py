"""The log probabilities of tokens by the embedded engine's model, with the version and with its base alone. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from tasks.base.load import load_trained
from tasks.base.pin import BaseRecord
from tasks.base.precision import computes_bf16
from tasks.inference.support import inner_model

Prompted = tuple[Sequence[int], Sequence[int]]
"""A prompt, and the tokens after it."""


def reference_logprobs(
    folder: Path, base: BaseRecord, precision: str, rows: Sequence[Prompted]
) -> list[tuple[list[float], list[float] | None]]:
    """For each row the log probabilities of its tokens by the version, and by its base (None: it has full weights).

    Args:
        precision: of the version's evaluation; fp32 where this machine only emulates bf16.
    """
    model = load_trained(folder, base, "bf16" if precision == "bf16" and computes_bf16() else "fp32")
    is_adapter = inner_model(model) is not model
    own = [logprobs_of(model, prompt, tokens) for prompt, tokens in rows]
    with model.disable_adapter() if is_adapter else nullcontext():
        bare = [logprobs_of(model, prompt, tokens) if is_adapter else None for prompt, tokens in rows]
    return [*zip(own, bare, strict=True)]


def logprobs_of(model: Any, prompt: Sequence[int], tokens: Sequence[int]) -> list[float]:
    """The log probability of each token after those before it."""
    ids = torch.tensor([[*prompt, *tokens]], device=inner_model(model).device)
    with torch.inference_mode():
        logits = model(input_ids=ids, use_cache=False).logits[0, len(prompt) - 1 : -1].float()
    chosen = ids[0, len(prompt) :, None]
    values: list[float] = logits.log_softmax(-1).gather(1, chosen)[:, 0].tolist()
    return values
