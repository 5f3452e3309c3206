"""Room `finetune`: the loss is exact, packing changes nothing, the same inputs give the same weights, a kill loses little."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.base.load import load_base, load_trained
from tasks.base.pin import read_base
from tasks.dataset.rendered import read_rendered
from tasks.errors import BaseModelError, TrainingError
from tasks.finetune import stage
from tasks.finetune.loop.progress_callback import ProgressCallback
from tasks.finetune.step.packed_attention import PackedRows, collate, use_packed_attention
from tasks.runtime.files import read_json


@pytest.mark.parametrize("base", ["tiny_gpt2", "tiny_llama"])
def test_a_packed_row_has_the_loss_of_its_single_examples(base: str, request: Any, project: Path) -> None:
    prepare(project, request.getfixturevalue(base))
    rendered = read_rendered("train")
    rows = PackedRows(rendered)
    plain, packed = load_base(read_base()), load_base(read_base())
    use_packed_attention(packed)
    batch = collate([rows[0], rows[1]])
    labels = batch.pop("labels")
    trained = (labels[0] != -100).nonzero()[:, 0]
    logits = packed(**batch, logits_to_keep=trained - 1).logits[0]
    together = torch.nn.functional.cross_entropy(logits, labels[0][trained], reduction="sum")
    alone = torch.tensor(0.0)
    for pack in (0, 1):
        edges = rendered.bounds(pack)
        for start, end in itertools.pairwise(edges):
            ids = torch.tensor(np.array(rendered.input_ids[start:end]), dtype=torch.long)[None]
            mask = torch.tensor(np.array(rendered.loss_mask[start:end]) == 0)[None]
            logits = plain(input_ids=ids).logits[0, :-1]
            alone = alone + torch.nn.functional.cross_entropy(
                logits, ids.masked_fill(mask, -100)[0, 1:], reduction="sum", ignore_index=-100
            )
    assert len(rendered.bounds(0)) > 2
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_training_lowers_the_loss_and_leaves_a_model_that_loads(method: str, project: Path, tiny_llama: Path) -> None:
    config = prepare(project, tiny_llama, method=method, max_steps=None, epochs=4.0, learning_rate=5e-3)
    stage.run(config)
    curves = [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]
    losses = [point["loss"] for point in curves if "loss" in point]
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.2
    assert any("valid_loss" in point for point in curves)
    model = load_trained(paths.MODEL, read_base())
    assert torch.isfinite(model(input_ids=torch.tensor([[1, 2, 3]])).logits).all()
    assert read_json(paths.TRAINING_REPORT)["steps"] == len(losses)
    assert not paths.CHECKPOINTS.exists() or not any(p.is_dir() for p in paths.CHECKPOINTS.iterdir())


def test_the_model_folder_holds_weights_configuration_tokenizer_and_curves_and_nothing_else(
    project: Path, tiny_gpt2: Path
) -> None:
    stage.run(prepare(project, tiny_gpt2))
    assert {p.name for p in paths.MODEL.iterdir()} == {
        "adapter_config.json", "adapter_model.safetensors", "chat_template.jinja", "curves.jsonl", "templates.json",
        "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    assert str(project.parent) not in (paths.MODEL / "adapter_config.json").read_text().replace(str(tiny_gpt2), "")


@pytest.mark.parametrize(
    "settings", [{}, {"precision": "bf16", "gradient_accumulation_steps": 2}, {"optimizer": "sgd"}]
)
def test_the_same_inputs_give_the_same_weights(settings: dict[str, Any], project: Path, tiny_gpt2: Path) -> None:
    config = prepare(project, tiny_gpt2, **settings)
    stage.run(config)
    first = trained_digest()
    stage.run(config)
    assert trained_digest() == first


def test_another_seed_gives_other_weights(project: Path, tiny_gpt2: Path) -> None:
    stage.run(prepare(project, tiny_gpt2, seed=1))
    first = trained_digest()
    stage.run(prepare(project, tiny_gpt2, seed=2))
    assert trained_digest() != first


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_interrupted_training_resumes_to_the_weights_of_an_uninterrupted_one(
    method: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {"method": method, "max_steps": 8, "checkpoint_every_steps": 2, "lora": {"rank": 4, "dropout": 0.1}}
    config = prepare(project, tiny_llama, **settings)
    stage.run(config)
    whole, curves = trained_digest(), (paths.MODEL / "curves.jsonl").read_text()
    on_log = ProgressCallback.on_log

    def stop_at_step_5(self: ProgressCallback, args: Any, state: Any, control: Any, **more: Any) -> None:
        if state.global_step == 5:
            raise KeyboardInterrupt
        on_log(self, args, state, control, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", stop_at_step_5)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
    torn = next(p for p in paths.CHECKPOINTS.iterdir() if p.is_dir()) / "checkpoint-6"
    torn.mkdir()  # as a kill in the middle of saving leaves it
    stage.run(config)
    assert "resumes from step 4" in capsys.readouterr().err
    assert trained_digest() == whole
    assert (paths.MODEL / "curves.jsonl").read_text() == curves


def test_early_stopping_keeps_the_best_weights(project: Path, tiny_llama: Path) -> None:
    settings = {
        "method": "full",
        "max_steps": None,
        "epochs": 30.0,
        "learning_rate": 0.05,
        "early_stopping_patience": 2,
    }
    stage.run(prepare(project, tiny_llama, **settings))
    report = read_json(paths.TRAINING_REPORT)
    assert report["best_step"] < report["steps"]
    assert report["epochs"] < 30


def test_a_loss_that_is_not_finite_stops_with_the_step(project: Path, tiny_llama: Path) -> None:
    config = prepare(
        project, tiny_llama, method="full", optimizer="sgd", learning_rate=1e30, max_grad_norm=1e30, max_steps=20
    )
    with pytest.raises(TrainingError, match=r"the (loss|gradient norm) is (nan|inf) at step \d+"):
        stage.run(config)


def test_target_modules_without_a_match_are_reported_with_the_existing_ones(project: Path, tiny_llama: Path) -> None:
    with pytest.raises(TrainingError, match=r"match no module of this model; it has .*q_proj"):
        stage.run(prepare(project, tiny_llama, lora={"rank": 4, "target_modules": ["qq_proj"]}))


def test_gradient_checkpointing_trains_the_same_function(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama))
    plain = (paths.MODEL / "curves.jsonl").read_text().splitlines()[-2:]
    stage.run(prepare(project, tiny_llama, gradient_checkpointing=True))
    checkpointed = (paths.MODEL / "curves.jsonl").read_text().splitlines()[-2:]
    for before, after in zip(plain, checkpointed, strict=True):
        assert json.loads(before).keys() == json.loads(after).keys()
        for name, value in json.loads(before).items():
            assert json.loads(after)[name] == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize("objective", ["sft", "grpo"])
def test_nan_in_the_bases_weights_is_reported_for_the_base_and_not_for_rows(
    project: Path, tiny_llama: Path, tmp_path: Path, objective: str
) -> None:
    base = shutil.copytree(tiny_llama, tmp_path / "broken")
    weights = load_file(base / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(weights, base / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"NaN or infinity \(model\.layers\.1\.mlp\.up_proj\.weight\)") as error:
        stage.run(prepare(project, base, objective=objective))
    assert str(base) in str(error.value)
    assert "rows" not in str(error.value)
