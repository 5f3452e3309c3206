"""Does a model say the same of examples side by side as of each alone? Asked of the model itself, before it is trained.

Some models mix tokens otherwise than by the attention that we put into them: they keep one of their own (GPT-Neo, Bloom), add to it
(the sinks of gpt-oss), or have convolutions and states that run on over the end of an example (LFM2, Mamba).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from tasks.finetune.step.gpu_kernels import FLASH, boundaries
from tasks.finetune.step.shared_prefix import IGNORED, LEAST_TOKENS, share_prompt

MOST_DIFFERENCE, MOST_IN_BF16 = 0.01, 0.2
"""Of what another prompt changes. Rounding in bf16 was 0.06 of it with SmolLM2; Bloom is off by 0.3, gpt-oss by 0.6."""
LEAST_AHEAD, LEAST_IN_BF16 = 1e-5, 5e-3
"""Of the logits, by another token behind them; where none is looked at, it is rounding at most."""
CANNOT = (TypeError, ValueError, RuntimeError, IndexError, AssertionError)
OWN_TOKENS = (6, 3, 6)
"""What follows the prompt in three examples."""


def takes_packed_rows(model: Any, own_attention: str) -> bool:
    """Are a packed row's logits those of its examples?

    Args:
        model: with the attention for packed rows.
        own_attention: what it came with; it is computed by that alone, and then has the other again.
    """
    if _has_convolutions(model):
        return False
    packed = model.config._attn_implementation
    try:
        together = _said(model, _batch(model, 0))
        model.set_attn_implementation(own_attention)
        alone, other = (_said(model, _last_alone(model, prompt)) for prompt in (0, 1))
    except CANNOT:
        return False
    finally:
        model.set_attn_implementation(packed)
    return _is_near(model, together, alone, other)


def reads_ahead(model: Any) -> bool:
    """Does what it says of a token depend on those that follow, as an encoder's does? Asked by its own attention."""
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = (torch.arange(OWN_TOKENS[0] * 2, device=model.device) + 1) * 7919 % vocabulary
    other = ids.clone()
    other[-1] = (other[-1] + 1) % vocabulary
    try:
        one, two = (_said(model, {"input_ids": each[None]}, len(ids))[:-1] for each in (ids, other))
    except CANNOT:
        return False
    least = LEAST_IN_BF16 if _is_narrow(model) else LEAST_AHEAD
    return bool((one - two).norm() > least * (one - one.mean()).norm())


def takes_shared_prompts(model: Any, attention: str) -> bool:
    """Are they those of the same row with its prompt shared? Of a model that takes packed rows.

    Args:
        attention: the name of the attention that knows of `share_prompt`.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if inner.config._attn_implementation != attention:
        return False
    by_chance = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in inner.modules())
    if by_chance or _has_convolutions(inner):
        return False
    try:
        plain, other = _batch(inner, 0), _batch(inner, 1)
        shared = share_prompt(plain)
        return _is_near(inner, _said(inner, shared), _said(inner, plain), _said(inner, other))
    except CANNOT:
        return False


def _has_convolutions(model: Any) -> bool:
    """As all have that keep a state besides; they reach over the end of an example by so little that rounding may hide it."""
    return any(isinstance(module, torch.nn.Conv1d) for module in model.modules())


def _is_near(model: Any, found: torch.Tensor, wanted: torch.Tensor, other: torch.Tensor) -> bool:
    most = MOST_IN_BF16 if _is_narrow(model) else MOST_DIFFERENCE
    return bool((found - wanted).norm() <= most * (other - wanted).norm())


def _is_narrow(model: Any) -> bool:
    return model.config._attn_implementation == FLASH or any(
        value.dtype != torch.float32 for value in model.parameters() if value.is_floating_point()
    )


def _batch(model: Any, prompt: int) -> dict[str, Any]:
    """The examples as `packed.collate` gives them, behind one of two prompts. Their tokens are from all over the vocabulary."""
    vocabulary = model.get_input_embeddings().num_embeddings
    lengths = [LEAST_TOKENS + length for length in OWN_TOKENS]
    ids = (torch.arange(sum(lengths)) + 1) * 7919 % vocabulary
    first = (torch.arange(LEAST_TOKENS) + 1 + LEAST_TOKENS * prompt) * 104729 % vocabulary
    for end in itertools.accumulate(lengths, initial=0):
        if end < len(ids):
            ids[end : end + LEAST_TOKENS] = first
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": torch.full_like(ids, IGNORED)[None],
        "cu_seq_lens_q": torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32),
    }


def _last_alone(model: Any, prompt: int) -> dict[str, Any]:
    return {"input_ids": _batch(model, prompt)["input_ids"][:, -LEAST_TOKENS - OWN_TOKENS[-1] :]}


def _said(model: Any, batch: dict[str, Any], last: int = OWN_TOKENS[-1]) -> torch.Tensor:
    """The logits of so many tokens at the end: the last example's own."""
    attention = model.config._attn_implementation
    named = {name: value.to(model.device) for name, value in batch.items() if name != "labels"}
    if "cu_seq_lens_q" in named:
        named |= boundaries(named.pop("cu_seq_lens_q"), attention)
    was_training = model.training
    model.eval()
    try:
        is_mixed = len({value.dtype for value in model.parameters() if value.is_floating_point()}) > 1
        is_narrow = is_mixed or attention == FLASH
        with torch.no_grad(), torch.autocast(model.device.type, torch.bfloat16, enabled=is_narrow):
            logits: torch.Tensor = model(**named, use_cache=False).logits[0, -last:].float()
        return logits
    finally:
        model.train(was_training)
