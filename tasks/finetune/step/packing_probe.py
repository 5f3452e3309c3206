"""Checks, before training, that a model gives the same logits for packed examples as for single examples.

Some models mix tokens in other ways than by the attention that we set: they keep their own (GPT-Neo, Bloom), add to it (the sinks
of gpt-oss), or have convolutions and states that continue over the end of an example (LFM2, Mamba).
"""

from __future__ import annotations

import itertools
from typing import Any

import torch

from tasks.finetune.step.gpu_kernels import FLASH, boundaries
from tasks.finetune.step.shared_prefix import IGNORED, MIN_SHARED_TOKENS, share_prompt

MAX_DIFFERENCE, MAX_DIFFERENCE_BF16 = 0.01, 0.2
"""As a share of the change by another prompt. Rounding in bf16 was 0.06 with SmolLM2; Bloom differs by 0.3, gpt-oss by 0.6."""
MIN_LATER_EFFECT, MIN_LATER_EFFECT_BF16 = 1e-5, 5e-3
"""Relative change of the logits by another later token; in a causal model it is rounding at most."""
PROBE_ERRORS = (TypeError, ValueError, RuntimeError, IndexError, AssertionError)
OWN_TOKENS = (6, 3, 6)
"""Tokens after the prompt in the three examples of the probe."""


def supports_packed_rows(model: Any, own_attention: str) -> bool:
    """Are the logits of a packed row those of its examples?

    Args:
        model: with the attention for packed rows.
        own_attention: the model's original attention, used for the single examples; the model's attention is restored afterwards.
    """
    if _has_convolutions(model):
        return False
    packed = model.config._attn_implementation
    try:
        together = _logits(model, _batch(model, 0))
        model.set_attn_implementation(own_attention)
        last = slice(-MIN_SHARED_TOKENS - OWN_TOKENS[-1], None)
        alone, other = (_logits(model, {"input_ids": _batch(model, n)["input_ids"][:, last]}) for n in (0, 1))
    except PROBE_ERRORS:
        return False
    finally:
        model.set_attn_implementation(packed)
    return _is_near(model, together, alone, other)


def attends_to_later_tokens(model: Any) -> bool:
    """Do the logits of a token depend on later tokens, as in an encoder? Tested with the model's own attention."""
    vocabulary = model.get_input_embeddings().num_embeddings
    ids = (torch.arange(OWN_TOKENS[0] * 2, device=model.device) + 1) * 7919 % vocabulary
    other = ids.clone()
    other[-1] = (other[-1] + 1) % vocabulary
    try:
        first, second = (_logits(model, {"input_ids": row[None]}, len(ids))[:-1] for row in (ids, other))
    except PROBE_ERRORS:
        return False
    least = MIN_LATER_EFFECT_BF16 if _has_bf16(model) else MIN_LATER_EFFECT
    return bool((first - second).norm() > least * (first - first.mean()).norm())


def supports_shared_prompts(model: Any, attention: str) -> bool:
    """Are the logits unchanged if the prompt of a packed row is shared? For a model that supports packed rows.

    Args:
        attention: name of the attention that supports `share_prompt`.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    if inner.config._attn_implementation != attention:
        return False
    has_dropout = any(isinstance(module, torch.nn.Dropout) and module.p > 0 for module in inner.modules())
    if has_dropout or _has_convolutions(inner):
        return False
    try:
        plain, other = _batch(inner, 0), _batch(inner, 1)
        shared = share_prompt(plain)
        return _is_near(inner, _logits(inner, shared), _logits(inner, plain), _logits(inner, other))
    except PROBE_ERRORS:
        return False


def _has_convolutions(model: Any) -> bool:
    """Stateful models all have them; they reach over the end of an example by so little that rounding may hide it."""
    return any(isinstance(module, torch.nn.Conv1d) for module in model.modules())


def _is_near(model: Any, actual: torch.Tensor, expected: torch.Tensor, other: torch.Tensor) -> bool:
    most = MAX_DIFFERENCE_BF16 if _has_bf16(model) else MAX_DIFFERENCE
    return bool((actual - expected).norm() <= most * (other - expected).norm())


def _has_bf16(model: Any) -> bool:
    return model.config._attn_implementation == FLASH or any(
        value.dtype != torch.float32 for value in model.parameters() if value.is_floating_point()
    )


def _batch(model: Any, prompt: int) -> dict[str, Any]:
    """Three examples as a batch of `packed_attention.collate`, after one of two prompts, with tokens from the whole vocabulary."""
    vocabulary = model.get_input_embeddings().num_embeddings
    lengths = [MIN_SHARED_TOKENS + length for length in OWN_TOKENS]
    ids = (torch.arange(sum(lengths)) + 1) * 7919 % vocabulary
    first = (torch.arange(MIN_SHARED_TOKENS) + 1 + MIN_SHARED_TOKENS * prompt) * 104729 % vocabulary
    for end in itertools.accumulate(lengths, initial=0):
        if end < len(ids):
            ids[end : end + MIN_SHARED_TOKENS] = first
    return {
        "input_ids": ids[None],
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "labels": torch.full_like(ids, IGNORED)[None],
        "cu_seq_lens_q": torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32),
    }


def _logits(model: Any, batch: dict[str, Any], last: int = OWN_TOKENS[-1]) -> torch.Tensor:
    """The logits of the last tokens; by default those of the last example after its prompt."""
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
