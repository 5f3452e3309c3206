"""The memory estimate: parameters are counted exactly, and the recipe for 24 GB fits 24 GB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.project import REPOSITORY, params, write_params

from flows.doctor.memory_estimate import GB, Memory, count_parameters, estimate_training, shape_of
from tasks.base.pin import pin_base
from tasks.config import load_config
from tasks.finetune.config.training_fields import LoraSettings
from tasks.finetune.model.build import build_model
from tasks.finetune.settings import FinetuneSettings, TrainingSettings
from tasks.finetune.work import Work
from tasks.render.settings import RenderSettings

LLAMA_7B: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
MISTRAL_7B: dict[str, Any] = {
    "model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "head_dim": 128,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32768, "tie_word_embeddings": False,
}  # fmt: skip


def test_parameters_of_known_models_are_counted_exactly() -> None:
    whole = count_parameters(LLAMA_7B, FinetuneSettings(method="full"))
    assert (whole.base, whole.trained) == (6_738_415_616, 6_738_415_616)
    assert (
        count_parameters(LLAMA_7B, FinetuneSettings()).trained == 39_976_960
    )  # rank 16, every linear layer but the head


def test_adapters_are_counted_as_peft_makes_them(tiny_gpt2: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    for targets in ("all-linear", ["c_attn"]):
        model = get_peft_model(
            AutoModelForCausalLM.from_pretrained(tiny_gpt2),
            LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"),
        )
        made = sum(p.numel() for p in model.parameters() if p.requires_grad)
        lora = LoraSettings(rank=4, target_modules=targets if isinstance(targets, str) else tuple(targets))
        assert count_parameters(model.get_base_model().config.to_dict(), FinetuneSettings(lora=lora)).trained == made


def estimate_memory(config: dict[str, Any], training: Any, render: RenderSettings, precision: str) -> Memory:
    return estimate_training(config, training.model_copy(update={"precision": precision}), render).memory


@pytest.mark.parametrize("config", [LLAMA_7B, MISTRAL_7B], ids=["llama", "mistral"])
def test_the_recipe_for_7b_fits_a_gpu_of_24_gb_and_would_not_without_its_means(config: dict[str, Any]) -> None:
    recipe = load_config(REPOSITORY / "recipes/llama-7b-lora.yaml")
    finetune, render = recipe.finetune, recipe.render
    assert 14 * GB < estimate_memory(config, finetune, render, "bf16").total < 22 * GB
    full = finetune.model_copy(update={"method": "full"})
    assert estimate_memory(config, full, render, "bf16").total > 100 * GB
    without = finetune.model_copy(update={"gradient_checkpointing": False})
    assert estimate_memory(config, without, render, "bf16").total > 24 * GB
    assert estimate_memory(config, finetune, render, "fp32").total > 24 * GB


def test_longer_rows_and_larger_batches_take_more() -> None:
    def total(rows: int, length: int) -> float:
        finetune = FinetuneSettings(micro_batch_rows=rows)
        return estimate_memory(LLAMA_7B, finetune, RenderSettings(pack_length_tokens=length), "bf16").activations

    assert total(2, 1024) == pytest.approx(total(1, 2048)) == pytest.approx(2 * total(1, 1024))


def test_widths_are_read_from_either_kind_of_configuration() -> None:
    gpt2 = shape_of({"n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_inner": None})
    assert (gpt2.hidden, gpt2.feed_forward, gpt2.key_value) == (768, 3072, 768)
    assert shape_of(MISTRAL_7B).key_value == 1024


METHODS: tuple[dict[str, Any], ...] = (
    {"method": "full"},
    {"method": "freeze", "freeze": {"last_layers": 1, "head": True}},
    {"method": "lora", "lora": {"rank": 4}},
    {"method": "dora"},
    {"method": "prompt", "prompt": {"kind": "prefix"}},
)


@pytest.mark.parametrize("settings", [*METHODS, *({**each, "objective": "classify"} for each in METHODS[:4])], ids=str)
def test_what_each_method_trains_is_counted_as_the_training_makes_it(
    settings: dict[str, Any], project: Path, tiny_llama: Path
) -> None:
    write_params(project, params(tiny_llama, [], finetune=settings))
    config = load_config()
    labels = ("a", "b") if "objective" in settings else None
    model = build_model(Work(config.finetune, pin_base(config.base), "fp32", project), labels=labels)
    made = sum(value.numel() for value in model.parameters() if value.requires_grad)
    architecture = json.loads((tiny_llama / "config.json").read_text())
    assert count_parameters(architecture, config.finetune).trained == made


def test_each_objective_takes_what_it_holds_at_once() -> None:
    def memory(**settings: Any) -> Memory:
        training = TrainingSettings.model_validate({"micro_batch_rows": 2, **settings}, strict=False)
        render = RenderSettings(max_length_tokens=512, pack_length_tokens=1024)
        return estimate_memory(LLAMA_7B, training, render, "bf16")

    answers, pairs = memory(), memory(objective="dpo")
    assert pairs.activations == answers.activations, "two answers of 512 tokens are as much as a packed row"
    assert pairs.head > 3 * answers.head, "their logits are held whole"
    assert pairs.weights == answers.weights, "the base without its adapter is what is compared with"
    whole = memory(objective="dpo", method="full")
    assert whole.weights == 2 * memory(objective="orpo", method="full").weights
    assert memory(objective="classify").head == 0
    grpo = {"answers": 8, "max_answer_tokens": 256, "rewards": [{"kind": "exact_match"}]}
    assert memory(objective="grpo", grpo=grpo).activations == 8 * 2 * (512 + 256) / (2 * 1024) * answers.activations
    assert memory(method="qlora").weights < 0.4 * answers.weights
    frozen = memory(method="freeze")
    assert answers.weights < frozen.weights < memory(method="full").weights
    assert memory(batches="by_length", micro_batch_rows=4).head > 3 * answers.head
