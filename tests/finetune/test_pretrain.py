"""Objective `pretrain`: trains on raw text, from a base or from scratch, and later trainings start from it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.project import begin_round, params, write_params
from support.rawtext import write_texts_and_answers

from tasks import paths
from tasks.base.load import load_base, load_tokenizer, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.config import PipelineConfig, load_config
from tasks.curate.stage import run as curate
from tasks.dataset.rendered import read_rendered
from tasks.errors import ConfigError, DataError
from tasks.finetune import stage
from tasks.render.stage import run as render_all
from tasks.runtime.files import read_json

PRETRAIN: dict[str, Any] = {"objective": "pretrain", "precision": "fp32", "threads": 1, "learning_rate": 5e-3}
NANO = {"model": "scratch", "scratch": {"size": "nano", "vocabulary": 400, "context": 128}}


def prepare(project: Path, base: Path | None, render: dict[str, Any] | None = None, **finetune: Any) -> PipelineConfig:
    """The rooms before `finetune`, on raw text and answers; without a base, from scratch."""
    values = params(base or "scratch", [], render=render or {}, finetune={"precision": "fp32", **finetune})
    if base is None:
        values["base"] = NANO
    write_params(project, values)
    config = load_config()
    if not paths.CURATED.exists():
        write_texts_and_answers()
        curate(config)
    begin_round(config)
    render_all(config)
    return config


def losses() -> list[float]:
    lines = (paths.MODEL / "curves.jsonl").read_text().splitlines()
    return [point["loss"] for point in map(json.loads, lines) if "loss" in point]


def loss_of_text(model: Any) -> float:
    """Mean loss of a token of the validation texts, by transformers alone."""
    rendered = read_rendered("valid", "texts")
    total, count = 0.0, 0
    for start, end in zip(rendered.examples[:-1], rendered.examples[1:], strict=True):
        ids = torch.tensor(rendered.input_ids[start:end].astype(int))[None]
        with torch.inference_mode():
            total += float(model(input_ids=ids, labels=ids).loss) * (int(end) - int(start) - 1)
        count += int(end) - int(start) - 1
    return total / count


@pytest.mark.parametrize(("method", "share"), [("full", 0.8), ("lora", 0.97)])
def test_continued_pretraining_lowers_the_loss_on_similar_text(
    method: str, share: float, project: Path, tiny_llama: Path
) -> None:
    settings = PRETRAIN | {"method": method, "max_steps": 30, "learning_rate": 5e-3 if method == "full" else 2e-2}
    stage.run(prepare(project, tiny_llama, **settings))
    base, model = load_base(read_base()), load_trained(paths.MODEL, read_base())
    assert loss_of_text(model) < share * loss_of_text(base)
    report = read_json(paths.TRAINING_REPORT)
    assert report["objective"] == "pretrain"
    assert report["answer_tokens"] == report["train_tokens"]
    assert (paths.MODEL / "adapter_config.json").is_file() == (method == "lora")


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
def test_a_model_from_scratch_learns_and_can_be_loaded_and_generate(
    architecture: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NANO["scratch"], "architecture", architecture)  # type: ignore[arg-type]
    stage.run(prepare(project, None, **PRETRAIN, method="full", max_steps=30))
    model, tokenizer = load_trained(paths.MODEL, read_base()), load_tokenizer(paths.MODEL)
    assert losses()[-1] < 0.7 * losses()[0]
    assert loss_of_text(model) < 0.8 * loss_of_text(load_base(read_base()))
    ids = torch.tensor([tokenizer("On day")["input_ids"]])
    written = model.generate(ids, max_new_tokens=8, do_sample=False)
    assert tokenizer.decode(written[0]).startswith("On day")


def test_from_scratch_the_same_rows_give_the_same_weights_with_a_recreated_base(project: Path) -> None:
    config = prepare(project, None, **PRETRAIN, method="full")
    stage.run(config)
    digest = weights_digest(paths.MODEL)
    shutil.rmtree(paths.BASES)
    stage.run(config)
    assert weights_digest(paths.MODEL) == digest


def weights() -> dict[str, torch.Tensor]:
    return load_file(paths.MODEL / "model.safetensors")


def largest_difference(some: dict[str, torch.Tensor], others: dict[str, torch.Tensor]) -> float:
    assert some.keys() == others.keys()
    return max(float((value - others[name]).abs().max()) for name, value in some.items())


@pytest.mark.parametrize("base", ["tiny_llama", "scratch"])
def test_sft_starts_from_the_pretrained_weights(base: str, project: Path, request: pytest.FixtureRequest) -> None:
    folder = None if base == "scratch" else request.getfixturevalue(base)
    first = PRETRAIN | {"method": "full", "max_steps": 3}
    stage.run(prepare(project, folder, **first))
    pretrained = weights()
    # a learning rate that moves nothing shows where the second training starts
    stage.run(prepare(project, folder, method="full", max_steps=1, learning_rate=1e-12, before=[first]))
    assert largest_difference(weights(), pretrained) < 1e-9
    stage.run(prepare(project, folder, method="full", max_steps=3, before=[first]))
    assert largest_difference(weights(), pretrained) > 1e-3
    report = read_json(paths.TRAINING_REPORT)
    assert [report["objective"], *(one["objective"] for one in report["before"])] == ["sft", "pretrain"]


def test_an_adapter_on_pretrained_weights_is_saved_as_full_weights(project: Path, tiny_llama: Path) -> None:
    first = PRETRAIN | {"method": "full", "max_steps": 3}
    stage.run(prepare(project, tiny_llama, **first))
    pretrained = weights()
    stage.run(prepare(project, tiny_llama, method="lora", max_steps=6, before=[first]))
    assert not (paths.MODEL / "adapter_config.json").exists()
    trained = weights()
    changed = {name for name, value in trained.items() if not torch.equal(value, pretrained[name])}
    assert changed
    assert all("proj" in name for name in changed), "an adapter is on the linear layers alone"
    assert load_trained(paths.MODEL, read_base()).num_parameters() == load_base(read_base()).num_parameters()


def test_examples_longer_than_the_context_are_reported_before_any_work(project: Path) -> None:
    with pytest.raises(ConfigError, match=r"max_length_tokens is 200, above base\.scratch\.context, which is 128"):
        prepare(project, None, **PRETRAIN, render={"max_length_tokens": 200})


def test_pretraining_without_raw_text_is_an_error(project: Path, tiny_llama: Path) -> None:
    from support.toy_rows import toy_rows, write_part

    write_params(project, params(tiny_llama, [], finetune={"before": [PRETRAIN]}))
    config = load_config()
    write_part(toy_rows())
    begin_round(config)
    curate(config)
    with pytest.raises(DataError, match="no training row can be rendered in the form texts"):
        render_all(config)
