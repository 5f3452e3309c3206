"""Does a model say the same of examples side by side as of each alone? Asked of the model itself, before it is trained.

Some models mix tokens otherwise than by the attention that we put into them: they keep one of their own (GPT-Neo, Bloom), add to it
(the sinks of gpt-oss), or have convolutions and states that run on over the end of an example (LFM2, Mamba).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from tasks.finetune.sharing import IGNORED, LEAST_TOKENS, share_prompt

MOST_DIFFERENCE = 0.1
"""Of what another prompt changes: rounding in bf16 is a few hundredths of it."""
CANNOT = (TypeError, ValueError, RuntimeError, IndexError, AssertionError)
OWN = [torch.arange(length) % 5 + 2 + number for number, length in enumerate((6, 3, 6))]
"""What follows the prompt in three examples."""


def takes_packed_rows(model: Any, own_attention: str) -> bool:
    """Are a packed row's logits those of its examples?

    Args:
        model: on a CPU, with the attention for packed rows.
        own_attention: what it came with; it is computed by that alone, and then has the other again.
    """
    packed = model.config._attn_implementation
    try:
        together = _said(model, _batch(0))
        model.set_attn_implementation(own_attention)
        alone, other = (_said(model, _last_alone(shift)) for shift in (0, 1))
    except CANNOT:
        return False
    finally:
        model.set_attn_implementation(packed)
    return _is_near(together, alone, other)


def takes_shared_prompts(model: Any, attention: str) -> bool:
    """Are they those of the same row with its prompt shared? Of a model that takes packed rows.

    Args:
        attention: the name of the attention that knows of `share_prompt`.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if inner.config._attn_implementation != attention:
        return False
    by_chance = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in inner.modules())
    if by_chance or any(isinstance(module, torch.nn.Conv1d) for module in inner.modules()):
        return False
    try:
        shared, plain, other = _said(inner, share_prompt(_batch(0))), _said(inner, _batch(0)), _said(inner, _batch(1))
    except CANNOT:
        return False
    return _is_near(shared, plain, other)


def _is_near(found: torch.Tensor, wanted: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((found - wanted).abs().max() <= MOST_DIFFERENCE * (other - wanted).abs().max())


def _batch(shift: int) -> dict[str, Any]:
    """The examples as `packed.collate` gives them, behind one prompt."""
    prompt = torch.arange(LEAST_TOKENS) % 7 + 1 + shift
    ids = torch.cat([part for each in OWN for part in (prompt, each)])
    lengths = [LEAST_TOKENS + len(each) for each in OWN]
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": torch.full_like(ids, IGNORED)[None],
        "cu_seq_lens_q": torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32),
    }


def _last_alone(shift: int) -> dict[str, Any]:
    return {"input_ids": _batch(shift)["input_ids"][:, -LEAST_TOKENS - len(OWN[-1]) :]}


def _said(model: Any, batch: dict[str, Any]) -> torch.Tensor:
    """The logits of the last example's own tokens."""
    named = {name: value for name, value in batch.items() if name != "labels"}
    was_training = model.training
    model.eval()
    try:
        is_mixed = len({value.dtype for value in model.parameters() if value.is_floating_point()}) > 1
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            logits: torch.Tensor = model(**named, use_cache=False).logits[0, -len(OWN[-1]) :].float()
        return logits
    finally:
        model.train(was_training)
