"""The probe before training: does a model give the same logits for packed and for single examples?"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from support.tiny_models import make_tiny_tokenizer
from support.toy_training import prepare

from tasks import paths
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.finetune.step.packed_attention import ATTENTION, use_packed_attention
from tasks.finetune.step.packing_probe import attends_to_later_tokens, supports_shared_prompts

SIZES = {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "intermediate_size": 64}
HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512}
CONFIGS: dict[str, Callable[[], Any]] = {
    "llama": lambda: transformers.LlamaConfig(**SIZES, **HEADS),
    "gpt_neo": lambda: transformers.GPTNeoConfig(
        vocab_size=400, hidden_size=32, num_layers=2, num_heads=4, max_position_embeddings=512,
        attention_types=[[["global", "local"], 1]], window_size=512,
    ),
    "bloom": lambda: transformers.BloomConfig(vocab_size=400, hidden_size=32, n_layer=2, n_head=4),
    "gpt_oss": lambda: transformers.GptOssConfig(**SIZES, **HEADS, head_dim=8, num_local_experts=2, num_experts_per_tok=1),
    "lfm2": lambda: transformers.Lfm2Config(**SIZES, **HEADS, layer_types=["conv", "full_attention"]),
    "mamba2": lambda: transformers.Mamba2Config(
        vocab_size=400, hidden_size=32, num_hidden_layers=2, state_size=8, num_heads=8, head_dim=8, n_groups=1, expand=2
    ),
}  # fmt: skip


def small(kind: str) -> Any:
    """Models whose weights are large enough that a prompt matters."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(CONFIGS[kind]())
    for name, value in model.named_parameters():
        value.data *= 3
        if "sinks" in name:
            value.data += 2.0
    return model


@pytest.mark.parametrize(
    ("kind", "takes", "shares"),
    [
        ("llama", True, True),
        ("gpt_neo", True, False),
        ("bloom", False, False),
        ("gpt_oss", False, False),
        ("lfm2", False, False),
        ("mamba2", False, False),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_a_model_with_equal_logits_gets_packed_rows_and_shared_prompts(
    dtype: torch.dtype, kind: str, takes: bool, shares: bool
) -> None:
    """GPT-Neo keeps its own attention, Bloom's counts positions in the row, gpt-oss adds sinks, and LFM2 and Mamba mix tokens in
    convolutions and states."""
    model = small(kind).to(dtype)
    own = model.config._attn_implementation
    assert use_packed_attention(model) is takes
    assert supports_shared_prompts(model, ATTENTION) is shares
    if not takes:
        assert model.config._attn_implementation == own


def test_a_model_that_drops_the_boundaries_is_detected() -> None:
    model = small("llama")
    assert use_packed_attention(model)
    assert supports_shared_prompts(model, ATTENTION)
    forward = model.model.layers[1].forward

    def forgets(*arguments: Any, cu_seq_lens_q: torch.Tensor, **named: Any) -> Any:
        return forward(*arguments, cu_seq_lens_q=cu_seq_lens_q.clamp(min=0), **named)

    model.model.layers[1].forward = forgets
    assert not supports_shared_prompts(model, ATTENTION)


def test_a_model_with_dropout_shares_no_prompt() -> None:
    model = small("llama")
    assert use_packed_attention(model)
    model.model.layers[0].mlp.extra = torch.nn.Dropout(0.1)
    assert not supports_shared_prompts(model, ATTENTION)


def saved(folder: Path, model: Any) -> Path:
    tokenizer = make_tiny_tokenizer()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def losses_of(config: Any) -> list[float]:
    stage.run(config)
    curves = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
    return [point["loss"] for point in curves if "loss" in point]


def test_a_model_without_support_for_packed_rows_is_trained_unpacked(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = saved(tmp_path / "lfm2", small("lfm2"))
    losses = losses_of(prepare(project, base, max_steps=30, learning_rate=5e-3, precision="fp32"))
    assert "does not support packed rows: it is trained unpacked, with padding" in capsys.readouterr().err
    assert sum(losses[-5:]) < sum(losses[:5])


def test_examples_longer_than_a_sliding_window_are_trained_unpacked(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = transformers.MistralConfig(**SIZES, **HEADS, sliding_window=16)
    torch.manual_seed(0)
    base = saved(tmp_path / "mistral", transformers.AutoModelForCausalLM.from_config(config))
    monkeypatch.setattr(
        "tasks.finetune.model.build.use_packed_attention", lambda *_: pytest.fail("its window is 16 tokens")
    )
    assert len(losses_of(prepare(project, base, max_steps=2))) == 2


@pytest.mark.parametrize("kind", ["RobertaConfig", "ElectraConfig"])
def test_an_encoder_is_rejected_by_a_generative_objective(kind: str, project: Path, tmp_path: Path) -> None:
    config = getattr(transformers, kind)(**SIZES, num_attention_heads=4, max_position_embeddings=514, pad_token_id=1)
    torch.manual_seed(0)
    base = saved(tmp_path / kind, transformers.AutoModelForCausalLM.from_config(config))
    with pytest.raises(TrainingError, match=r"an encoder.*cannot be trained to generate.*classify"):
        stage.run(prepare(project, base, max_steps=2))


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_causal_model_is_mistaken_for_an_encoder(kind: str) -> None:
    assert not attends_to_later_tokens(small(kind))
