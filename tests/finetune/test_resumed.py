"""Room `finetune`, resumed from a checkpoint: early stopping, the last step and a smaller micro-batch persist."""

from __future__ import annotations

import os
import signal
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from support.killed_training import EARLY, kill_at
from support.project import set_up_project
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.finetune.failures import train_with_oom_retries
from tasks.finetune.loop import train
from tasks.finetune.loop.signals import StopOnSignal, handling_signals
from tasks.finetune.settings import FinetuneSettings
from tasks.runtime.files import read_json
from tasks.runtime.progress import Progress, track


@dataclass(frozen=True)
class Outcome:
    """The results of a training."""

    digest: str
    report: Any
    curves: str


def outcome() -> Outcome:
    return Outcome(trained_digest(), read_json(paths.TRAINING_REPORT), (paths.MODEL / "curves.jsonl").read_text())


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory, tiny_llama: Path) -> Outcome:
    """An uninterrupted training with `EARLY`."""
    root = tmp_path_factory.mktemp("uninterrupted") / "project"
    set_up_project(root)
    with chdir(root):
        stage.run(prepare(root, tiny_llama, **EARLY))
        return outcome()


@pytest.mark.parametrize("name", ["loss", "train_loss"], ids=["in the last step", "after it"])
def test_killed_after_bad_evaluations_it_stops_as_early_as_an_uninterrupted_training(
    name: str, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Outcome
) -> None:
    config = prepare(project, tiny_llama, **EARLY)
    assert uninterrupted.report["epochs"] < 30
    kill_at(monkeypatch, uninterrupted.report["steps"], name, config)
    stage.run(config)
    assert outcome() == uninterrupted


def test_killed_after_its_last_step_it_does_not_train_further(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=3, schedule="constant")
    stage.run(config)
    digest = trained_digest()
    kill_at(monkeypatch, 3, "train_loss", config)
    stage.run(config)
    assert read_json(paths.TRAINING_REPORT)["steps"] == 3
    assert trained_digest() == digest


def test_a_signal_after_early_stopping_is_no_interruption(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, uninterrupted: Outcome
) -> None:
    config = prepare(project, tiny_llama, **EARLY)
    steps = uninterrupted.report["steps"]
    marked = train.SealCheckpoint

    class SendsSignal(marked):  # type: ignore[misc, valid-type]
        def on_evaluate(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == steps:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(train, "SealCheckpoint", SendsSignal)
    stage.run(config)
    assert trained_digest() == uninterrupted.digest


def test_a_run_after_a_kill_keeps_the_micro_batch_that_fits(tmp_path: Path) -> None:
    settings = FinetuneSettings(micro_batch_rows=4, gradient_accumulation_steps=1)
    tried: list[int] = []

    def killed(fitting: FinetuneSettings) -> None:
        tried.append(fitting.micro_batch_rows)
        if fitting.micro_batch_rows > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        (tmp_path / "checkpoint-1").mkdir()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_with_oom_retries(settings, tmp_path, killed)
    used, _ = train_with_oom_retries(settings, tmp_path, lambda fitting: tried.append(fitting.micro_batch_rows))
    assert tried == [4, 2, 2]
    assert (used.micro_batch_rows, used.gradient_accumulation_steps) == (2, 2)
    assert (tmp_path / "checkpoint-1").is_dir()


@pytest.mark.parametrize(
    "field",
    [
        "save_only_model",
        "ignore_data_skip",
        "dataloader_drop_last",
        "auto_find_batch_size",
        "restore_callback_states_from_checkpoint",
    ],
)
def test_a_field_that_resuming_depends_on_may_not_be_set(field: str, project: Path, tiny_gpt2: Path) -> None:
    with pytest.raises(TrainingError, match=f"{field} may not be set"):
        stage.run(prepare(project, tiny_gpt2, trainer={field: True}))


def test_a_closed_output_does_not_stop_training(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any, **__: Any) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("builtins.print", closed)
    monkeypatch.setattr(os, "write", closed)
    with track("finetune", total=2, unit="rows") as progress:
        progress.advance(1)
    assert progress.done == 1
    stop = StopOnSignal(Progress("finetune", 1, "tokens"))
    with handling_signals(stop.request_stop):
        signal.raise_signal(signal.SIGTERM)
    assert stop.number == signal.SIGTERM


def test_with_early_stopping_a_kill_loses_no_more_steps_than_the_checkpoint_interval(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = {**EARLY, "epochs": 3.0, "checkpoint_every_steps": 2}
    config = prepare(project, tiny_llama, **settings)
    stage.run(config)
    digest, report = trained_digest(), read_json(paths.TRAINING_REPORT)
    assert report["steps"] > 6
    kill_at(monkeypatch, 5, "loss", config)
    capsys.readouterr()
    stage.run(config)
    assert "resumes from step 4" in capsys.readouterr().err
    assert trained_digest() == digest
    assert read_json(paths.TRAINING_REPORT) == report
