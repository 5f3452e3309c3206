"""Which models a SlotDecoder can decode: those whose attention transformers computes by a function that can be replaced.

All others are decoded by `generate` of transformers: models with sliding windows that are shorter than the rows, linear attention,
attention sinks, position biases or code of their own; learned prompts and prefixes; generation settings that change scores, except
a repetition penalty.
"""

from __future__ import annotations

import logging
from typing import Any

import torch

from tasks.inference.decoder import SlotDecoder
from tasks.inference.engine import LogitsNotFinite
from tasks.inference.slots import use_slots

logger = logging.getLogger(__name__)

CHANGE_SCORES = (
    *("no_repeat_ngram_size", "min_length", "min_new_tokens", "bad_words_ids", "suppress_tokens", "sequence_bias"),
    *("begin_suppress_tokens", "forced_bos_token_id", "forced_eos_token_id", "exponential_decay_length_penalty"),
    *("encoder_repetition_penalty", "encoder_no_repeat_ngram_size", "guidance_scale", "penalty_alpha", "dola_layers"),
    *(
        "remove_invalid_values",
        "watermarking_config",
        "stop_strings",
        "num_beams",
        "num_beam_groups",
        "force_words_ids",
    ),
)
"""Settings of a generation config that change a greedy answer, if they are set."""
NEUTRAL = (None, 0, 1, 1.0, False)
PROBE_TOKENS = 11
TOLERANCE = {torch.float32: 1e-3}
ROUGH_TOLERANCE = 0.1
"""Greatest difference of a logit, relative to the largest one; rough for bf16."""


def inner_model(model: Any) -> Any:
    """The causal LM within an adapter, whose layers the adapter has replaced."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def unsupported_reason(model: Any, width: int) -> str | None:
    """Why a SlotDecoder cannot decode rows of up to `width` tokens with this model; None if it can."""
    inner = inner_model(model)
    if inner is not model and model.active_peft_config.is_prompt_learning:
        return "it has a learned prompt"
    config = inner.config
    if config.is_encoder_decoder or not getattr(inner, "_supports_attention_backend", False):
        return f"the attention of {config.model_type} cannot be replaced"
    if getattr(inner, "_is_stateful", False) or any(kind not in FULL for kind in _layer_types(config, width)):
        return "it has windowed or linear attention"
    setting = score_setting(inner)
    return _differs(inner) if setting is None else f"its generation config sets {setting}"


def score_setting(model: Any) -> str | None:
    """The first setting of its generation config that changes scores, apart from a repetition penalty; None without one."""
    settings = model.generation_config
    return next((name for name in CHANGE_SCORES if getattr(settings, name, None) not in NEUTRAL), None)


FULL = ("full_attention",)


def _layer_types(config: Any, width: int) -> set[str]:
    """The kinds of attention of the layers, where a window as wide as the rows is full attention."""
    window = getattr(config, "sliding_window", None)
    is_wide = window is None or window >= width
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        has_window = not is_wide and getattr(config, "use_sliding_window", True)
        return {"sliding_attention" if has_window else "full_attention"}
    return {"full_attention" if kind == "sliding_attention" and is_wide else kind for kind in kinds}


def _differs(inner: Any) -> str | None:
    """Compares the logits for a few tokens with those of the model's own forward pass.

    Raises:
        LogitsNotFinite: the model computes NaN.
    """
    tokens = [(7 * place + 3) % min(inner.config.vocab_size, 97) for place in range(PROBE_TOKENS)]
    with torch.inference_mode():
        expected = inner(input_ids=torch.tensor([tokens], device=inner.device), use_cache=False).logits[0, -1].float()
        if not bool(torch.isfinite(expected).all()):
            raise LogitsNotFinite
        try:
            with use_slots(inner):
                decoder = SlotDecoder(inner, [], rows=2, width=2 * PROBE_TOKENS)
                decoder.admit([(0, tokens[:3]), (1, tokens)], 1)
                actual = decoder.logits()[1].float()
        except (TypeError, AttributeError, ValueError, RuntimeError, IndexError) as error:
            logger.debug("slots are not supported", exc_info=error)
            return f"it does not accept a key-value cache with slots ({type(error).__name__})"
    tolerance = TOLERANCE.get(inner.dtype, ROUGH_TOLERANCE)
    largest = float((actual - expected).abs().max() / expected.abs().max().clamp(min=1.0))
    return None if largest <= tolerance else "its logits with slots differ from its own"
