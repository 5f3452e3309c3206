"""Tests on a GPU: the same checks as on a CPU, and the memory of a 7B model. Run: .venv/bin/python -m pytest -m gpu

On a CPU, a tiny model of the same architecture runs the real step of the 7B recipe, so that its code is tested.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML
from support.project import REPOSITORY
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.base.load import load_base, load_trained
from tasks.base.pin import read_base
from tasks.dataset.rendered import Rendered, read_rendered
from tasks.finetune import stage
from tasks.finetune.config.trainer_arguments import training_arguments
from tasks.finetune.model.build import with_method
from tasks.finetune.settings import FinetuneSettings
from tasks.finetune.step import gpu_kernels
from tasks.finetune.step.packed_attention import ATTENTION, PackedRows, collate, use_packed_attention
from tasks.finetune.step.trainer import AnswerTrainer
from tasks.finetune.work import Work
from tasks.runtime.files import read_json

gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GB = 1e9


def one_row(tokens: int, vocabulary: int) -> Rendered:
    """A packed row of four examples of random tokens, half of each an answer."""
    ids = np.random.default_rng(0).integers(5, vocabulary, tokens).astype(np.int32)
    edges = np.linspace(0, tokens, 5).astype(np.int64)
    mask = np.zeros(tokens, np.uint8)
    for first, last in itertools.pairwise(edges):
        mask[(first + last) // 2 : last] = 1
    return Rendered(ids, mask, edges, np.zeros(4, np.int64), np.array(["r"] * 4, "S32"))


def real_step(config: Any, recipe: dict[str, Any], tokens: int, device: str, folder: Path) -> float:
    """One step of the recipe on random weights, a packed row in it; the loss."""
    from transformers import AutoModelForCausalLM

    settings = FinetuneSettings(**recipe["finetune"] | {"max_steps": 1, "epochs": 1})
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    assert use_packed_attention(model, "bf16")
    gpu_kernels.use_fast_kernels(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.enable_input_require_grads()
    model = with_method(model, settings, "bf16", "CAUSAL_LM")
    rows = PackedRows(one_row(tokens, config.vocab_size))
    work = Work(settings, record=None, precision="bf16", checkpoints=folder)  # type: ignore[arg-type]
    trainer = AnswerTrainer(model=model, args=training_arguments(work, 1, 0), train_dataset=rows)
    trainer.train()
    return float(trainer.state.log_history[0]["loss"])


def llama_recipe() -> dict[str, Any]:
    text = (REPOSITORY / "recipes/llama-7b-lora.yaml").read_text(encoding="utf-8")
    recipe: dict[str, Any] = YAML(typ="safe").load(text)
    return recipe


def test_the_real_step_runs_on_a_cpu_with_a_tiny_model(tmp_path: Path) -> None:
    from transformers import MistralConfig

    config = MistralConfig(
        vocab_size=400, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, sliding_window=None,
    )  # fmt: skip
    loss = real_step(config, llama_recipe(), 64, "cpu", tmp_path)
    assert loss == pytest.approx(np.log(400), rel=0.1)


@gpu
@needs_gpu
def test_one_step_of_the_7b_recipe_takes_less_than_24_gb(tmp_path: Path) -> None:
    from transformers import MistralConfig

    recipe = llama_recipe()
    assert recipe["base"]["model"] == "mistralai/Mistral-7B-Instruct-v0.3"
    config = MistralConfig(  # its config.json; other values are the defaults of the class
        vocab_size=32768, max_position_embeddings=32768, rope_theta=1e6, sliding_window=None,
    )  # fmt: skip
    torch.cuda.reset_peak_memory_stats()
    loss = real_step(config, recipe, recipe["render"]["pack_length_tokens"], "cuda", tmp_path)
    peak = torch.cuda.max_memory_reserved() / GB
    print(f"llama-7b-lora: {peak:.1f} GB, loss {loss:.3f}")
    assert peak < 24


@gpu
@needs_gpu
@pytest.mark.parametrize("method", ["lora", "full"])
def test_deterministic_weights_are_reproducible_on_a_gpu(method: str, project: Path, tiny_llama: Path) -> None:
    config = prepare(project, tiny_llama, method=method, deterministic=True, precision="bf16")
    stage.run(config)
    digest = trained_digest()
    stage.run(config)
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT)["device"] == "cuda"


@gpu
@needs_gpu
def test_four_bits_train_on_a_gpu(project: Path, tiny_llama: Path) -> None:
    pytest.importorskip("bitsandbytes")
    stage.run(prepare(project, tiny_llama, method="qlora", precision="bf16"))
    assert load_trained(paths.MODEL, read_base()).num_parameters() > 0


@gpu
@needs_gpu
def test_a_packed_row_has_the_logits_of_its_single_examples_on_a_gpu(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama)
    row = PackedRows(read_rendered("train"))[0]
    batch = {name: value.cuda() for name, value in collate([row]).items() if name not in ("rows", "labels")}
    plain, packed = load_base(read_base()), load_base(read_base())
    use_packed_attention(packed)
    edges = batch.pop("cu_seq_lens_q")
    logits = packed(**batch, **gpu_kernels.boundaries(edges, gpu_kernels.FLEX), use_cache=False).logits[0]
    parts = [plain(input_ids=batch["input_ids"][:, a:b]).logits[0] for a, b in itertools.pairwise(edges.tolist())]
    torch.testing.assert_close(logits, torch.cat(parts), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("flash", "precision", "taken"),
    [(True, "bf16", "flash_attention_2"), (True, "fp32", "flex_attention"), (False, "bf16", "flex_attention")],
)
def test_flash_attention_is_used_where_it_is_installed_and_the_precision_is_bf16(
    flash: bool, precision: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("transformers.utils.is_flash_attn_2_available", lambda: flash)
    assert gpu_kernels.attention_on_gpu(precision) == taken


def test_each_attention_gets_its_boundary_arguments() -> None:
    edges = torch.tensor([0, 3, 10], dtype=torch.int32)
    assert gpu_kernels.boundaries(edges, ATTENTION).keys() == {"cu_seq_lens_q"}
    assert gpu_kernels.boundaries(edges, gpu_kernels.FLEX) == {}
    flash = gpu_kernels.boundaries(edges, gpu_kernels.FLASH)
    assert (flash["max_length_q"], flash["max_length_k"]) == (7, 7)
    assert flash["cu_seq_lens_q"] is flash["cu_seq_lens_k"] is edges
