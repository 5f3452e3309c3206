"""Objectives `dpo`, `orpo` and `kto`: the model gets the rendered tokens, learns the preferences, and resumes after a kill."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from support.killed_training import kill_at
from support.toypreferences import curves, prepare

from tasks import paths
from tasks.base.load import load_base, load_trained
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.dataset.rendered import read_rows
from tasks.errors import ConfigError, TrainingError
from tasks.finetune import job, stage
from tasks.finetune.loop.progress_callback import ProgressCallback
from tasks.finetune.objectives import preferences
from tasks.finetune.objectives.trl_dataset import collate_judged, collate_odds
from tasks.finetune.work import Work
from tasks.runtime.files import read_json

OBJECTIVES: dict[str, dict[str, Any]] = {"dpo": {}, "orpo": {}, "kto": {"micro_batch_rows": 4}}
ANSWERS = {"dpo": ("chosen_ids", "rejected_ids"), "orpo": ("chosen_ids", "rejected_ids"), "kto": ("answer_ids",)}


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_the_model_gets_exactly_the_rendered_tokens(
    objective: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, objective=objective, max_steps=3, **OBJECTIVES[objective])
    seen: list[list[int]] = []
    build = preferences.build_model

    def build_with_hook(*arguments: Any) -> Any:
        model = build(*arguments)
        model.get_input_embeddings().register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].tolist()))
        return model

    monkeypatch.setattr(preferences, "build_model", build_with_hook)
    stage.run(config)
    form = "judged" if objective == "kto" else "pairs"
    rows = [row for split in ("train", "valid") for row in read_rows(split, form).to_pylist()]
    answers = [row[name] for row in rows for name in ANSWERS[objective]]
    sequences = {tuple(row["prompt_ids"] + row[name]) for row in rows for name in ANSWERS[objective]}
    if objective == "kto":  # each prompt is also paired with an answer to another
        sequences |= {tuple(row["prompt_ids"] + answer) for row in rows for answer in answers}
    lengths = {len(ids) for ids in sequences}
    assert len(seen) > 6
    for ids in seen:
        assert any(tuple(ids[:n]) in sequences and not any(ids[n:]) for n in lengths), (
            "neither a rendered row nor padding"
        )


def test_dpo_raises_the_margin_of_the_better_answer_over_the_worse(project: Path, tiny_llama: Path) -> None:
    stage.run(prepare(project, tiny_llama, objective="dpo", max_steps=20, micro_batch_rows=2))
    points = [point for point in curves() if "loss" in point]
    assert points[0]["rewards/margins"] == 0
    assert points[0]["loss"] == pytest.approx(math.log(2), abs=1e-4)
    measured = [point for point in curves() if "valid_loss" in point][-1]
    assert measured["valid_rewards/margins"] > 1
    assert measured["valid_rewards/accuracies"] == 1
    base, trained = load_base(read_base()), load_trained(paths.MODEL, read_base())
    for row in read_rows("valid", "pairs").to_pylist():
        before, after = (
            [log_probability(model, row, kind) for kind in ("chosen", "rejected")] for model in (base, trained)
        )
        assert after[0] - after[1] > before[0] - before[1]


def log_probability(model: Any, row: dict[str, Any], kind: str) -> float:
    prompt, answer = row["prompt_ids"], row[f"{kind}_ids"]
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + answer])).logits[0, len(prompt) - 1 : -1]
    return float(logits.log_softmax(-1)[range(len(answer)), answer].sum())


@pytest.mark.parametrize("objective", ["orpo", "kto"])
def test_the_loss_falls(objective: str, project: Path, tiny_llama: Path) -> None:
    settings = {"max_steps": 20, "micro_batch_rows": 4, "evaluations_per_epoch": 2}
    stage.run(prepare(project, tiny_llama, objective=objective, **settings))
    measured = [point for point in curves() if "valid_loss" in point]
    assert measured[-1]["valid_loss"] < measured[0]["valid_loss"]
    assert measured[-1]["valid_rewards/margins"] > 0
    assert all("rewards/chosen" in point or "rewards/rejected" in point for point in curves() if "loss" in point)


@pytest.mark.parametrize("method", ["lora", "dora", "full", "freeze"])
def test_dpo_compares_with_the_start_weights(method: str, project: Path, tiny_llama: Path) -> None:
    before = [{"method": method, "max_steps": 3, "learning_rate": 5e-3, "precision": "fp32", "lora": {"rank": 4}}]
    stage.run(prepare(project, tiny_llama, objective="dpo", method=method, before=before, max_steps=2))
    first, second = [point for point in curves() if "loss" in point]
    assert first["rewards/chosen"] == first["rewards/rejected"] == 0
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-4)
    assert second["rewards/chosen"] != 0
    model = load_trained(paths.MODEL, read_base())
    if method in ("lora", "dora"):
        assert set(model.peft_config) == {"default"}
        assert [path.name for path in paths.MODEL.iterdir() if path.is_dir()] == []
    facts = read_json(paths.TRAINING_REPORT)
    assert facts["parameters"] == facts["before"][0]["parameters"]


@pytest.mark.parametrize(
    ("objective", "method"),
    [
        ("dpo", "lora"),
        *(pytest.param(*each, marks=pytest.mark.slow) for each in (("dpo", "full"), ("orpo", "lora"), ("kto", "lora"))),
    ],
)
def test_killed_and_run_again_it_ends_with_the_same_weights_and_curves(
    objective: str, method: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = {"micro_batch_rows": 2, "gradient_accumulation_steps": 2}
    before = [{"method": method, "max_steps": 2, "precision": "fp32", "lora": {"rank": 4}}]
    more = {"objective": objective, "method": method, "before": before, "checkpoint_every_steps": 4, "max_steps": 9}
    config = prepare(project, tiny_llama, **more, **size)
    stage.run(config)
    digest, curve = weights_digest(paths.MODEL), (paths.MODEL / "curves.jsonl").read_bytes()
    kill_at(monkeypatch, 9, "loss", config)
    stage.run(config)
    assert weights_digest(paths.MODEL) == digest
    assert (paths.MODEL / "curves.jsonl").read_bytes() == curve
    assert read_json(paths.TRAINING_REPORT)["epochs"] > 1


def test_early_stopping_keeps_the_best_weights(project: Path, tiny_llama: Path) -> None:
    early = {"early_stopping_patience": 1, "epochs": 30.0, "max_steps": None, "learning_rate": 0.3}
    stage.run(prepare(project, tiny_llama, objective="dpo", micro_batch_rows=4, **early))
    report = read_json(paths.TRAINING_REPORT)
    assert report["best_step"] < report["steps"]
    assert report["epochs"] < 30


def test_a_loss_that_is_not_finite_names_the_rows_of_its_batch(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, objective="dpo", gradient_accumulation_steps=2)
    plain = ProgressCallback.on_log

    def on_log(self: ProgressCallback, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        plain(self, args, state, control, {**logs, "loss": math.nan} if state.global_step == 2 else logs, **more)

    monkeypatch.setattr(ProgressCallback, "on_log", on_log)
    with pytest.raises(TrainingError, match="loss is nan at step 2") as error:
        stage.run(config)
    row_ids = read_rows("train", "pairs")["row_id"].to_pylist()
    assert sum(row_id in str(error.value) for row_id in row_ids) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"objective": "dpo", "method": "prompt"}, "method: prompt cannot be combined with objective: dpo"),
        ({"objective": "orpo", "loss_on": "all"}, "loss_on: all cannot be combined with objective: orpo"),
        ({"objective": "kto", "micro_batch_rows": 1}, "kto needs micro_batch_rows of at least 2"),
        ({"objective": "kto", "micro_batch_rows": 2, "neftune_alpha": 5}, "neftune_alpha cannot be combined"),
        ({"objective": "dpo", "lora": {"dropout": 0.1}}, "dropout and lora.dropout cannot be combined"),
        ({"objective": "reward", "label_smoothing": 0.1}, "label_smoothing cannot be combined with objective: reward"),
        ({"objective": "dpo", "preference": {"loss": "robust"}}, "robust needs label_smoothing"),
        ({"objective": "grpo", "early_stopping_patience": 2}, "early_stopping_patience cannot be combined"),
        ({"objective": "sft", "early_stopping_patience": 2, "evaluations_per_epoch": 0}, "set evaluations_per_epoch"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_setting_that_the_objective_does_not_support_is_rejected_before_any_work(
    settings: dict[str, Any], message: str, project: Path, tiny_llama: Path
) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        prepare(project, tiny_llama, **settings)
    assert len(str(error.value).splitlines()) == 3  # where, what, what to do


@pytest.mark.parametrize("loss", ["hinge", "ipo", "robust"])
def test_dpo_supports_other_losses(loss: str, project: Path, tiny_llama: Path) -> None:
    smoothing = {"label_smoothing": 0.2} if loss == "robust" else {}
    more = {"objective": "dpo", "preference": {"loss": loss, "beta": 0.5}, "max_steps": 10, **smoothing}
    stage.run(prepare(project, tiny_llama, **more))
    measured = [point for point in curves() if "valid_loss" in point][-1]
    assert measured["valid_rewards/margins"] > 0


def test_a_field_that_the_objective_sets_is_reported_before_the_first_training(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, before=[{"objective": "sft"}], objective="dpo", trainer={"beta": 0.3})
    monkeypatch.setattr(job, "train", lambda *_: pytest.fail("it began to work"))
    with pytest.raises(TrainingError, match=r"finetune\.trainer\.beta is set by the objective's own settings"):
        stage.run(config)


def test_ratings_are_weighted(project: Path, tiny_llama: Path) -> None:
    weights = {"desirable_weight": 3.0, "undesirable_weight": 3.0}
    stage.run(prepare(project, tiny_llama, objective="kto", micro_batch_rows=4, max_steps=1, kto=weights))
    assert curves()[0]["loss"] == pytest.approx(1.5)  # without weights one half, before anything is learned


def test_an_answer_alone_in_its_batch_is_paired_with_that_to_another_prompt(project: Path, tiny_llama: Path) -> None:
    """With its own answer, the KL term would not measure the distance to the reference model."""
    config = prepare(project, tiny_llama, objective="kto", micro_batch_rows=4)
    work = Work(config.finetune, read_base(), "fp32", project / "checkpoints")
    collate = preferences.prepare(work).make_trainer([]).data_collator
    rows = read_rows("train", "judged").to_pylist()
    for row, other in ((rows[0], rows[1]), (rows[1], rows[0]), (rows[-1], rows[0])):
        batch = collate([row])
        assert batch["KL_input_ids"].tolist() == [row["prompt_ids"] + other["answer_ids"]]
        assert batch["input_ids"].tolist() == [row["prompt_ids"] + row["answer_ids"]]


def test_the_odds_have_labels_on_answers_only() -> None:
    rows = [
        {"row_id": "a", "prompt_ids": [1, 2, 3], "chosen_ids": [4, 5], "rejected_ids": [6]},
        {"row_id": "b", "prompt_ids": [7], "chosen_ids": [8], "rejected_ids": [9, 10]},
    ]
    batch = collate_odds(rows, 0)
    learned = {kind: batch[f"{kind}_labels"] for kind in ("chosen", "rejected")}
    assert [[token for token in row if token != -100] for row in learned["chosen"].tolist()] == [[4, 5], [8]]
    assert [[token for token in row if token != -100] for row in learned["rejected"].tolist()] == [[6], [9, 10]]
    assert batch["chosen_input_ids"].tolist() == [[1, 2, 3, 4, 5], [7, 8, 0, 0, 0]]


def test_a_mismatched_answer_is_truncated_at_the_context_length() -> None:
    rows = [
        {"row_id": "a", "prompt_ids": [1] * 6, "answer_ids": [2] * 2, "desirable": True},
        {"row_id": "b", "prompt_ids": [3] * 2, "answer_ids": [4] * 6, "desirable": False},
    ]
    batch = collate_judged(rows, 0, limit=8)
    assert batch["KL_input_ids"].tolist() == [[1] * 6 + [4] * 2, [3] * 2 + [2] * 2 + [0] * 4]
