"""A tiny model with its tokenizer, and an engine for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tasks.base.load import load_tokenizer, load_weights
from tasks.inference.embedded import EmbeddedEngine
from tasks.runtime.threads import Threads

POSITIONS = 512


@pytest.fixture(scope="session")
def llama(tiny_llama: Path) -> tuple[Any, Any]:
    """The tiny Llama with larger weights and without tied embeddings: its answers do not repeat one token."""
    from transformers import AutoConfig, LlamaForCausalLM

    config = AutoConfig.from_pretrained(tiny_llama, tie_word_embeddings=False, initializer_range=0.2)
    torch.manual_seed(0)
    model = LlamaForCausalLM._from_config(config, attn_implementation="sdpa")
    return model.eval(), load_tokenizer(tiny_llama)


@pytest.fixture(scope="session")
def gpt2(tiny_gpt2: Path) -> tuple[Any, Any]:
    return load_weights(tiny_gpt2), load_tokenizer(tiny_gpt2)


@pytest.fixture(scope="session")
def qwen(tiny_llama: Path) -> tuple[Any, Any]:
    """A Qwen3 of 2 layers with random weights: norms of queries and keys."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=400, hidden_size=64, intermediate_size=192, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, max_position_embeddings=POSITIONS, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = Qwen3ForCausalLM._from_config(config, attn_implementation="sdpa")
    return model.eval(), load_tokenizer(tiny_llama)


@pytest.fixture
def open_engine() -> Callable[..., EmbeddedEngine]:
    def make(model: Any, tokenizer: Any, **changes: Any) -> EmbeddedEngine:
        settings = {"stage": "test", "rows": 8, "processes": 1, "positions": POSITIONS}
        return EmbeddedEngine(model, tokenizer, threads=Threads("test", is_quiet=True), **{**settings, **changes})

    return make
