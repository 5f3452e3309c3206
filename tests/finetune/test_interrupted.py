"""Room `finetune`, interrupted or failed: the messages, and from where the next run resumes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from support.toy_training import prepare, trained_digest
from transformers import TrainerCallback

from tasks import paths
from tasks.dataset.rendered import read_rendered
from tasks.errors import TrainingError
from tasks.finetune import stage
from tasks.finetune.failures import halve_micro_batch
from tasks.finetune.loop import train as training
from tasks.finetune.loop.progress_callback import EXPLODED_BY, WINDOW, ProgressCallback
from tasks.finetune.loop.signals import Interrupted
from tasks.finetune.objectives import sft
from tasks.finetune.settings import FinetuneSettings
from tasks.runtime.files import read_json
from tasks.runtime.progress import Progress


class SendSignal(TrainerCallback):  # type: ignore[misc]
    """Sends this process a signal at the start of a step, as a scheduler does to reclaim the machine."""

    def __init__(self, step: int, number: int) -> None:
        self.step, self.number = step, number

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == self.step:
            os.kill(os.getpid(), self.number)


def send_at(monkeypatch: pytest.MonkeyPatch, step: int, number: int) -> None:
    marked = training.SealCheckpoint

    class Both(marked):  # type: ignore[misc, valid-type]
        def on_step_begin(self, *arguments: Any, **named: Any) -> None:
            SendSignal(step, number).on_step_begin(*arguments, **named)

    monkeypatch.setattr(training, "SealCheckpoint", Both)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("step", [0, 3])
def test_a_signal_saves_a_checkpoint_and_the_next_run_ends_with_the_same_weights(
    step: int, number: int, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=6, lora={"dropout": 0.1})
    stage.run(config)
    digest = trained_digest()
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        send_at(patch, step, number)
        with pytest.raises(Interrupted, match=f"interrupted at step {step + 1}; a checkpoint is saved") as raised:
            stage.run(config)
    assert raised.value.exit_code == 128 + number
    assert signal.getsignal(number) == before
    assert [p.name for p in paths.CHECKPOINTS.glob("*/checkpoint-*")] == [f"checkpoint-{step + 1}"]
    last = (paths.EVENTS / "finetune.jsonl").read_text().splitlines()[-1]
    assert json.loads(last) == {"step": step + 1, "interrupted": True}
    stage.run(config)
    assert trained_digest() == digest


def test_a_signal_in_the_last_step_is_no_interruption(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=3)
    send_at(monkeypatch, 2, signal.SIGTERM)
    stage.run(config)
    assert trained_digest()


def test_a_loss_that_is_not_finite_names_the_rows_of_its_batch_and_the_last_good_checkpoint(
    project: Path, tiny_llama: Path
) -> None:
    wild = {"method": "full", "optimizer": "sgd", "learning_rate": 1e30, "max_grad_norm": 1e30}
    config = prepare(project, tiny_llama, **wild, max_steps=20, warmup_share=0.5, checkpoint_every_steps=1)
    with pytest.raises(TrainingError) as raised:
        stage.run(config)
    message = str(raised.value)
    assert re.match(r"finetune: the (loss|gradient norm) is (nan|inf) at step \d+; rows of its batch: ", message)
    shown = message.split("rows of its batch: ")[1].split(";")[0].split(" and ")[0].split(", ")
    train = read_rendered("train")
    row_ids = {row_id for pack in range(len(train)) for row_id in train.row_ids(pack)}
    assert shown
    assert set(shown) <= row_ids
    good = re.search(r"the last good checkpoint is (\S+)\. ", message)
    assert good is not None
    assert (Path(good[1]) / "complete").is_file()


@pytest.mark.chaos
def test_ctrl_c_on_a_terminal_saves_a_checkpoint(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama, max_steps=100_000, checkpoint_every_steps=100_000)
    code = """
import subprocess, sys
from flows.runtime.interruptible import run_interruptibly
try:
    run_interruptibly(lambda: subprocess.run([sys.executable, "-m", "tasks", "finetune"]))
except KeyboardInterrupt:
    sys.exit(7)
"""
    command = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.PIPE, text=True)
    events, until = paths.EVENTS / "finetune.jsonl", time.monotonic() + 120
    while not (events.exists() and events.read_text().count("\n") > 2):
        assert time.monotonic() < until, "training did not start"
        time.sleep(0.1)
    os.killpg(command.pid, signal.SIGINT)  # as a terminal does: to the command and to what it started
    _, stderr = command.communicate(timeout=60)
    assert command.returncode == 7
    assert "a checkpoint is saved" in stderr
    assert len([*paths.CHECKPOINTS.glob("*/checkpoint-*/complete")]) == 1
    assert '"interrupted": true' in events.read_text()


def test_a_negative_loss_that_falls_further_does_not_explode() -> None:
    callback = ProgressCallback(Progress("finetune", 100, "tokens"), 1)
    for step in range(1, 60):
        callback.on_log(None, type("State", (), {"global_step": step}), None, {"loss": 1.0 - 0.5 * step})


def test_a_loss_that_explodes_stops_the_training(tmp_path: Path) -> None:
    callback = ProgressCallback(Progress("finetune", 1, "tokens"), 1.0, lambda: ["a" * 32])

    def log(losses: list[float]) -> None:
        for step, loss in enumerate(losses):
            callback.on_log(None, type("State", (), {"global_step": step}), None, {"loss": loss})

    log([3.0 + step % 3 for step in range(40)])  # like the losses of small batches
    with pytest.raises(TrainingError, match=r"the loss exploded: from 3\.9 to .*rows of its batch: a{32}"):
        log([2 * 4 + EXPLODED_BY + 1] * WINDOW)


def test_a_training_resumed_from_exploded_weights_is_stopped_again() -> None:
    steps: list[int] = []
    callback = ProgressCallback(Progress("finetune", 1, "tokens"), 1.0, checkpoint_before=steps.append)  # type: ignore[arg-type]
    had = [{"step": step, "loss": 2.0 if step < 41 else 9.0} for step in range(1, 51)]
    callback.on_train_begin(None, type("State", (), {"global_step": 50, "log_history": had}), None)
    with pytest.raises(TrainingError, match="exploded"):
        callback.on_log(None, type("State", (), {"global_step": 51}), None, {"loss": 9.0})
    assert steps
    assert steps[0] <= 41  # a later checkpoint is not reported as good


def test_a_second_signal_ends_the_process_immediately() -> None:
    code = """
import os, signal, types
from tasks.finetune.loop import signals
from tasks.runtime.progress import Progress
now = 0.0
signals.time = types.SimpleNamespace(monotonic=lambda: now)
with signals.handling_signals(signals.StopOnSignal(Progress("finetune", 1, "tokens")).request_stop):
    os.kill(os.getpid(), signal.SIGTERM)
    now = signals.SAME_SECONDS
    os.kill(os.getpid(), signal.SIGTERM)  # the same request, forwarded by another process
    os.kill(os.getpid(), signal.SIGINT)
    print("still here", flush=True)
    now += 0.1
    os.kill(os.getpid(), signal.SIGTERM)
    print("and still", flush=True)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGTERM
    assert "still here" in result.stdout
    assert "and still" not in result.stdout


def test_a_gpu_that_is_too_small_gets_half_the_micro_batch_and_the_same_global_batch(
    project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = prepare(project, tiny_llama, micro_batch_rows=2, gradient_accumulation_steps=2, max_steps=3)
    stage.run(prepare(project, tiny_llama, micro_batch_rows=1, gradient_accumulation_steps=4, max_steps=3))
    expected = trained_digest()
    plain = sft.AnswerTrainer.compute_loss

    def compute_loss(self: Any, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
        if len(inputs["rows"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, model, inputs, *arguments, **named)

    monkeypatch.setattr(sft.AnswerTrainer, "compute_loss", compute_loss)
    capsys.readouterr()
    stage.run(config)
    assert "micro_batch_rows 1 and gradient_accumulation_steps 4: the same global batch" in capsys.readouterr().err
    assert trained_digest() == expected
    assert read_json(paths.TRAINING_REPORT)["effective_micro_batch_rows"] == 1


@pytest.mark.parametrize(("rows", "steps", "half"), [(6, 1, (3, 2)), (3, 5, (1, 15)), (5, 2, (2, 5)), (2, 1, (1, 2))])
def test_half_a_micro_batch_divides_the_global_batch(rows: int, steps: int, half: tuple[int, int]) -> None:
    settings = FinetuneSettings(micro_batch_rows=rows, gradient_accumulation_steps=steps)
    halved = halve_micro_batch(settings)
    assert (halved.micro_batch_rows, halved.gradient_accumulation_steps) == half


@pytest.mark.parametrize(
    "error",
    [OSError(28, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
    ids=["python", "safetensors"],
)
def test_a_full_disk_while_saving_leaves_the_previous_checkpoint_intact(
    error: Exception, project: Path, tiny_llama: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = prepare(project, tiny_llama, max_steps=6, checkpoint_every_steps=2)
    stage.run(config)
    digest = trained_digest()
    plain = sft.AnswerTrainer._save_optimizer_and_scheduler

    def full(self: Any, folder: str) -> None:
        if "checkpoint-4" in str(folder):
            raise error
        plain(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(sft.AnswerTrainer, "_save_optimizer_and_scheduler", full)
        with pytest.raises((TrainingError, OSError), match=r"[Nn]o space left"):
            stage.run(config)
    assert [whole.parent.name for whole in paths.CHECKPOINTS.glob("*/checkpoint-*/complete")] == ["checkpoint-2"]
    stage.run(config)
    assert trained_digest() == digest
