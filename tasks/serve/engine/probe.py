"""A test at the start: does a row have the same bits alone and beside another row, on this processor and with these libraries?"""

from __future__ import annotations

from typing import Any

import torch

from tasks.inference.decoder import SlotDecoder
from tasks.inference.slots import use_slots

LENGTHS = (205, 300)
"""Tokens of the two prompts: BLAS divides longer sums at another place."""
STEPS = 2


def has_independent_rows(model: Any, positions: int | None) -> bool:
    """Compares logits of two prompts that are computed together, and each alone, in parts and in steps.

    Args:
        model: a causal LM that a SlotDecoder supports.
    """
    longest = (positions or LENGTHS[-1] + STEPS) - STEPS
    words = min(model.config.get_text_config().vocab_size, 997)
    prompts = [[(7 * place + 3 * row) % words for place in range(min(LENGTHS[row], longest))] for row in range(2)]
    with torch.inference_mode(), use_slots(model):
        together = _logits(model, prompts)
        return all(torch.equal(_logits(model, [prompt])[:, 0], together[:, row]) for row, prompt in enumerate(prompts))


def _logits(model: Any, prompts: list[list[int]]) -> torch.Tensor:
    """Logits [steps, prompts, vocabulary]; each step has the same token in all."""
    decoder = SlotDecoder(model, [], len(prompts), max(map(len, prompts)) + STEPS)
    decoder.admit([(index, list(prompt)) for index, prompt in enumerate(prompts)], STEPS)
    steps = []
    for token in range(STEPS):
        logits = decoder.logits()
        order = sorted(range(len(prompts)), key=lambda slot: decoder.active[slot].index)
        steps.append(logits[order].clone())
        for row in decoder.active:
            row.tokens.append(token)
    return torch.stack(steps)
