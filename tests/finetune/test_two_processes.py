"""Two processes have the losses and weights of one."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support import toy_classes, toypreferences
from support.tiny_models import make_tiny_llama
from support.toy_training import prepare, trained_digest
from support.two_processes import SMALL, TWO, assert_same_training, curves

from tasks import paths
from tasks.finetune import stage
from tasks.runtime.files import read_json


def test_two_processes_have_the_losses_and_weights_of_one_with_the_same_global_batch(
    project: Path, tiny_llama: Path
) -> None:
    settings = {**SMALL, "max_steps": None, "epochs": 2.0}  # so that the last batch of an epoch is not whole
    assert_same_training(prepare(project, tiny_llama, **settings, launch=TWO), prepare(project, tiny_llama, **settings))
    report = read_json(paths.TRAINING_REPORT)
    assert report["strategy"] == "ddp"
    assert report["gradient_accumulation_steps"] == 2


@pytest.mark.slow
def test_two_nodes_train_together_and_only_the_first_writes(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.run(prepare(project, tiny_llama, **SMALL, launch=TWO))
    digest = trained_digest()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = prepare(project, tiny_llama, **SMALL, launch={"nodes": 2, "address": f"127.0.0.1:{port}"})
    paths.TRAINING_REPORT.unlink()
    second = subprocess.Popen([sys.executable, "-m", "tasks", "finetune"], env={**os.environ, "STROP_NODE": "1"})
    stage.run(config)
    assert second.wait(timeout=60) == 0
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT)["processes"] == 2


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["dpo", "orpo", "reward"])
def test_two_processes_learn_preferences_with_the_losses_of_one(
    objective: str, project: Path, tiny_llama: Path
) -> None:
    settings = {"objective": objective, "max_steps": 4, "gradient_accumulation_steps": 2}
    stage.run(toypreferences.prepare(project, tiny_llama, **settings))
    expected = [point["loss"] for point in curves() if "loss" in point]
    stage.run(toypreferences.prepare(project, tiny_llama, **settings, launch=TWO))
    assert [point["loss"] for point in curves() if "loss" in point] == pytest.approx(expected, rel=1e-4)
    assert read_json(paths.TRAINING_REPORT)["processes"] == 2


REWARDED = {"grpo": {"answers": 4, "max_answer_tokens": 4, "rewards": [{"kind": "format", "pattern": "(?s)[a-z].*"}]}}


@pytest.mark.slow
@pytest.mark.parametrize("settings", [{"objective": "kto"}, {"objective": "grpo", **REWARDED}], ids=str)
def test_kto_and_grpo_are_reproducible_in_two_processes(
    settings: dict[str, Any], project: Path, tiny_llama: Path
) -> None:
    size = {"max_steps": 3, "gradient_accumulation_steps": 2, "micro_batch_rows": 2}
    config = toypreferences.prepare(project, tiny_llama, **settings, **size, launch=TWO)
    stage.run(config)
    assert read_json(paths.TRAINING_REPORT)["processes"] == 2
    digest = trained_digest()
    stage.run(config)
    assert trained_digest() == digest


@pytest.mark.slow
@pytest.mark.parametrize("base", ["tiny_bert", "tiny_llama"])
def test_two_processes_learn_labels_with_the_losses_and_weights_of_one(
    base: str, project: Path, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(base)
    assert_same_training(
        toy_classes.prepare(project, folder, **SMALL, launch=TWO), toy_classes.prepare(project, folder, **SMALL)
    )


@pytest.mark.slow
def test_two_processes_learn_from_a_teacher_with_the_losses_and_weights_of_one(project: Path, tiny_llama: Path) -> None:
    settings = {**SMALL, "objective": "distill", "distill": {"teacher": str(make_tiny_llama(project / "teacher"))}}
    assert_same_training(prepare(project, tiny_llama, **settings, launch=TWO), prepare(project, tiny_llama, **settings))


@pytest.mark.slow
def test_trials_of_a_search_are_trained_and_stopped_by_several_processes_as_by_one(
    project: Path, tiny_llama: Path
) -> None:
    rates = {"learning_rate": {"choices": [5e-3, 1e-6]}}
    search = {"trials": 2, "parameters": rates, "sampler": "grid", "trials_before_pruning": 1, "seed": 1}
    outcomes = []
    for launch in ({}, TWO):
        stage.run(prepare(project, tiny_llama, **SMALL, search=search, launch=launch))
        report = read_json(paths.TRAINING_REPORT)
        outcomes.append([(t["parameters"], t["state"], t["valid_loss"]) for t in report["search"]["trials"]])
    assert report["processes"] == 2
    for one, other in zip(*outcomes, strict=True):
        assert one[:2] == other[:2]
        assert (one[2] or 0.0) == pytest.approx(other[2] or 0.0, rel=1e-4)
    assert [state for _, state, _ in outcomes[1]] == ["complete", "stopped"]
