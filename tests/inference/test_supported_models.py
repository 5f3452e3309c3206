"""Models that cannot be decoded in slots are decoded by `generate` of transformers, with the same answers."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch

from tasks.inference.batches import generate_batch
from tasks.inference.support import unsupported_reason


@pytest.fixture(scope="module")
def mistral() -> Any:
    """A model whose layers see the last 16 tokens."""
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, sliding_window=16, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return MistralForCausalLM._from_config(config, attn_implementation="sdpa").eval()


def test_a_sliding_window_is_decoded_in_slots_only_if_it_is_as_wide_as_the_rows(mistral: Any) -> None:
    assert unsupported_reason(mistral, 16) is None
    assert unsupported_reason(mistral, 17) == "it has windowed or linear attention"


def test_other_models_answer_in_padded_batches(mistral: Any, llama: Any, open_engine: Any, caplog: Any) -> None:
    prompts = [[5 + number] * (10 + number) for number in range(9)]
    with caplog.at_level(logging.INFO):
        answers = open_engine(mistral, llama[1], rows=4, processes=2).generate(prompts, 10)
    assert "generates with padded batches, since it has windowed or linear attention" in caplog.text
    alone = [generate_batch(mistral, [prompt], 10, ends=[0], padding=0)[0] for prompt in prompts]
    decode = llama[1].decode
    assert [answer.text for answer in answers] == [decode(tokens, skip_special_tokens=True).strip() for tokens in alone]


def test_settings_of_a_generation_config_that_change_scores_are_respected(llama: Any, monkeypatch: Any) -> None:
    model, _ = llama
    assert unsupported_reason(model, 64) is None
    monkeypatch.setattr(model.generation_config, "no_repeat_ngram_size", 2)
    assert unsupported_reason(model, 64) == "its generation config sets no_repeat_ngram_size"


def test_a_model_that_computes_something_else_in_slots_is_noticed(llama: Any, monkeypatch: Any) -> None:
    from tasks.inference import slots

    model, _ = llama
    attend = slots._attend
    monkeypatch.setattr(slots, "_attend", lambda *inputs: 2 * attend(*inputs))
    assert unsupported_reason(model, 64) == "its logits with slots differ from its own"


def test_a_model_that_does_not_tell_its_attention_where_rows_begin_is_noticed(llama: Any, monkeypatch: Any) -> None:
    model, _ = llama
    for layer in model.model.layers:
        attention, forward = layer.self_attn, layer.self_attn.forward

        def without_layout(*inputs: Any, forward: Any = forward, slot_layout: Any = None, **further: Any) -> Any:
            return forward(*inputs, **further)

        monkeypatch.setattr(attention, "forward", without_layout)
    assert unsupported_reason(model, 64) == "it does not accept a key-value cache with slots (ValueError)"


def test_a_learned_prompt_is_not_decoded_in_slots(tiny_llama: Any) -> None:
    from peft import PromptTuningConfig, get_peft_model

    from tasks.base.load import load_weights

    settings = PromptTuningConfig(num_virtual_tokens=3, task_type="CAUSAL_LM")
    model = get_peft_model(load_weights(tiny_llama), settings)
    assert unsupported_reason(model, 64) == "it has a learned prompt"
