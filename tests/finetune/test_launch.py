"""Several processes: the same losses as one, one checkpoint that all resume from, and none that outlives the stage."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import test_classify
import torch
import toypreferences
from conftest import make_tiny_llama, params, write_params
from processes import command_line
from safetensors.torch import load_file
from test_finetune import prepare, trained_digest

from tasks import paths
from tasks.config import PipelineConfig, load_config
from tasks.errors import ConfigError, TrainingError
from tasks.finetune import stage
from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.finetune.distributed.accelerate_env import sharding_environment
from tasks.finetune.distributed.launch import require_launch
from tasks.finetune.model.gather_model import sharding_strategy
from tasks.finetune.step.samplers import RowSampler, RowsWithFillers
from tasks.runtime.files import read_json

TWO = {"processes": 2}
SMALL = {"gradient_accumulation_steps": 2, "max_steps": 4, "evaluations_per_epoch": 100}


def curves() -> list[dict[str, float]]:
    return [json.loads(line) for line in (paths.MODEL / "curves.jsonl").read_text().splitlines()]


def weights() -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for path in sorted(paths.MODEL.glob("*.safetensors")):
        tensors |= load_file(path)
    return tensors


def assert_same_training(config: PipelineConfig, alone: PipelineConfig) -> None:
    """Trains by two processes and by one, and compares the curves and the weights."""
    stage.run(alone)
    expected, trained = curves(), weights()
    stage.run(config)
    assert read_json(paths.TRAINING_REPORT)["processes"] == 2
    curve_of_two = curves()
    assert [point["step"] for point in curve_of_two] == [point["step"] for point in expected]
    for one, other in zip(curve_of_two, expected, strict=True):
        assert one.keys() == other.keys()
        for name in one:
            assert one[name] == pytest.approx(other[name], rel=1e-4, abs=1e-4), (name, one["step"])
    assert any("valid_loss" in point for point in curve_of_two)
    both = weights()
    assert both.keys() == trained.keys()
    for name, value in trained.items():
        torch.testing.assert_close(both[name], value, rtol=1e-2, atol=2e-4)


def test_two_processes_have_the_losses_and_weights_of_one_with_the_same_global_batch(
    project: Path, tiny_llama: Path
) -> None:
    settings = {**SMALL, "max_steps": None, "epochs": 2.0}  # so that the last batch of an epoch is not whole
    assert_same_training(prepare(project, tiny_llama, **settings, launch=TWO), prepare(project, tiny_llama, **settings))
    report = read_json(paths.TRAINING_REPORT)
    assert report["strategy"] == "ddp"
    assert report["gradient_accumulation_steps"] == 2


def start() -> subprocess.Popen[str]:
    """The stage in a process of its own, as DVC runs it."""
    (paths.EVENTS / "finetune.jsonl").unlink(missing_ok=True)
    return subprocess.Popen(
        [sys.executable, "-m", "tasks", "finetune"], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def wait_for_step(step: int, process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Waits until the training logged the step; returns the worker processes."""
    events, until = paths.EVENTS / "finetune.jsonl", time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        lines = events.read_text().splitlines() if events.exists() else []
        if any(line.endswith("}") and json.loads(line)["step"] >= step for line in lines):
            return [
                child for child in psutil.Process(process.pid).children() if "worker" in " ".join(command_line(child))
            ]
        time.sleep(0.01)
    raise AssertionError(f"no step {step}: {process.communicate()}")


LONG = {"gradient_accumulation_steps": 2, "max_steps": 60, "checkpoint_every_steps": 1000, "lora": {"dropout": 0.1}}


@pytest.mark.slow
def test_a_signal_to_the_stage_saves_one_checkpoint_of_all_processes_and_the_next_run_ends_with_the_same_weights(
    project: Path, tiny_llama: Path
) -> None:
    config = prepare(project, tiny_llama, **LONG, launch=TWO)
    stage.run(config)
    digest = trained_digest()
    process = start()
    workers = wait_for_step(3, process)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 143, output
    *_, stopping, last = output.strip().splitlines()
    assert stopping.startswith("finetune: stopping after this step, with a checkpoint")
    assert last.startswith("strop: finetune: interrupted at step")
    assert output.count("finetune: stopping") == output.count("strop: ") == 1
    assert "Traceback" not in output
    assert len(workers) == 2
    assert not any(worker.is_running() for worker in workers)
    (kept,) = paths.CHECKPOINTS.glob("*/checkpoint-*")
    assert {"complete", "rng_state_0.pth", "rng_state_1.pth"} <= {path.name for path in kept.iterdir()}
    again = start()
    _, output = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "resumes from step" in output
    assert trained_digest() == digest


@pytest.mark.chaos
def test_a_stage_that_is_killed_leaves_no_process_behind(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama, **{**LONG, "max_steps": 2000}, launch=TWO)
    process = start()
    workers = wait_for_step(3, process)
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(workers, timeout=30)
    assert len(gone) == 2
    assert alive == []


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_is_reported_in_one_line(project: Path, tiny_llama: Path) -> None:
    prepare(project, tiny_llama, **{**LONG, "max_steps": 2000}, launch=TWO)
    process = start()
    workers = wait_for_step(3, process)
    workers[1].kill()
    _, output = process.communicate(timeout=60)
    assert process.returncode == 1
    *progress, last = output.strip().splitlines()
    assert last.startswith("strop: finetune: process 1 was killed by signal 9")
    assert all(line.startswith("finetune: ") for line in progress)
    assert not any(worker.is_running() for worker in workers)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"lora": {"target_modules": ["no_such_module"]}},
            r"params\.yaml: lora\.target_modules .*no_such_module.* match no module",
        ),
        ({"trainer": {"adam_beta2": 1.5}}, r"params\.yaml, finetune\.trainer: the optimiser: .*beta"),
    ],
    ids=str,
)
def test_an_error_in_all_processes_is_reported_as_in_one_process(
    wrong: dict[str, Any], message: str, project: Path, tiny_llama: Path
) -> None:
    config = prepare(project, tiny_llama, **SMALL, **wrong, launch=TWO)
    with pytest.raises(TrainingError, match=message):
        stage.run(config)


@pytest.mark.parametrize(
    ("launch", "message"),
    [
        ({"processes": 2}, "2 processes cannot share"),
        (
            {"processes": 2, "strategy": "fsdp"},
            "`config` (an accelerate file) is required for strategy: fsdp and deepspeed, and only allowed there",
        ),
        ({"processes": 2, "config": "x.yaml"}, "is required for strategy: fsdp and deepspeed, and only allowed there"),
        ({"processes": 2, "nodes": 2}, "`address` (host:port of the first node)"),
        ({"processes": 2, "nodes": 2, "address": "here"}, "should be host:port"),
        ({"strategy": "fsdp", "config": "x.yaml"}, "but there is one process"),
    ],
)
def test_an_invalid_launch_is_an_error_in_one_line_of_the_configuration(
    launch: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_params(tmp_path, params("base", [], finetune={"launch": launch}))
    with pytest.raises(ConfigError) as raised:
        load_config()
    assert message in str(raised.value)


def test_an_unavailable_strategy_is_reported_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def error_of(strategy: str) -> str:
        launch = {**TWO, "strategy": strategy, "config": "accelerate.yaml"}
        write_params(tmp_path, params("base", [], finetune={"gradient_accumulation_steps": 2, "launch": launch}))
        with pytest.raises(TrainingError) as raised:
            require_launch(load_config().finetune.launch)
        return str(raised.value)

    assert "accelerate.yaml: not found" in error_of("fsdp")
    Path("accelerate.yaml").write_text("distributed_type: MULTI_GPU")
    assert "distributed_type is MULTI_GPU, but finetune.launch.strategy: fsdp needs FSDP" in error_of("fsdp")
    Path("accelerate.yaml").write_text("{")
    assert "cannot be parsed as YAML" in error_of("fsdp")
    Path("accelerate.yaml").write_text("distributed_type: DEEPSPEED")
    assert "needs DeepSpeed. pip install deepspeed" in error_of("deepspeed")
    if not torch.cuda.is_available():
        Path("accelerate.yaml").write_text("distributed_type: FSDP")
        assert "strategy: fsdp needs GPUs, and there is none. Set strategy: ddp" in error_of("fsdp")


@pytest.mark.parametrize("threads", ["2,1", "many"])
def test_a_number_of_threads_that_accelerate_cannot_parse_stops_no_launch(
    threads: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    config = tmp_path / "accelerate.yaml"
    config.write_text("compute_environment: LOCAL_MACHINE\ndistributed_type: FSDP\nfsdp_config: {fsdp_version: 2}\n")
    settings = LaunchSettings.model_validate({"processes": 2, "strategy": "fsdp", "config": str(config)})
    assert sharding_environment(settings)["FSDP_VERSION"] == "2"


def test_a_model_that_should_be_sharded_and_is_not_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = SimpleNamespace(is_fsdp_enabled=False, is_deepspeed_enabled=False)
    assert sharding_strategy(trainer) == "ddp"
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(TrainingError, match="accelerate did not shard the model over the processes"):
        sharding_strategy(trainer)


@pytest.mark.parametrize("rows", [7, 8, 9, 1])
@pytest.mark.parametrize("by_length", [False, True])
def test_processes_use_each_row_once_per_epoch_with_the_global_batches_of_one_process(
    rows: int, by_length: bool
) -> None:
    lengths = np.random.default_rng(0).integers(1, 99, rows) if by_length else None
    alone, shared = RowSampler(rows, 2, 1, 5, lengths), RowSampler(rows, 2, 2, 5, lengths)
    for epoch in (0, 1):
        alone.set_epoch(epoch)
        shared.set_epoch(epoch)
        order = list(shared)
        assert sorted(row for row in order if row >= 0) == list(range(rows))
        assert [row for row in order if row >= 0] == list(alone)
        assert len(order) == len(shared)
        assert len(order) % 4 == 0
    if rows > 2:
        assert list(RowSampler(rows, 2, 1, 6, lengths)) != list(RowSampler(rows, 2, 1, 5, lengths))


def test_filler_rows_have_no_loss() -> None:
    rows = [
        {
            "input_ids": np.arange(3),
            "loss_mask": np.ones(3),
            "lengths": np.array([3]),
            "row": 0,
            "soft_ids": np.ones((3, 2)),
        }
    ]
    filler = RowsWithFillers(rows)[-1]
    assert filler["loss_mask"].sum() == 0
    assert filler["soft_ids"].shape == (0, 2)
    assert rows[0]["loss_mask"].sum() == 3


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


FSDP = """
distributed_type: FSDP
compute_environment: LOCAL_MACHINE
mixed_precision: "no"
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: true
  fsdp_state_dict_type: FULL_STATE_DICT
"""


NEEDS_TWO_GPUS = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="a model is sharded over GPUs")


@pytest.mark.gpu
@NEEDS_TWO_GPUS
@pytest.mark.parametrize("method", ["lora", "full"])
def test_a_model_sharded_by_fsdp_has_the_losses_and_weights_of_an_unsharded_one(
    method: str, project: Path, tiny_llama: Path
) -> None:
    Path("fsdp.yaml").write_text(FSDP)
    settings = {**SMALL, "method": method, "learning_rate": 1e-3}
    launch = {**TWO, "strategy": "fsdp", "config": "fsdp.yaml"}
    assert_same_training(
        prepare(project, tiny_llama, **settings, launch=launch), prepare(project, tiny_llama, **settings)
    )
    assert read_json(paths.TRAINING_REPORT)["strategy"] == "fsdp"


@pytest.mark.gpu
@NEEDS_TWO_GPUS
def test_a_training_by_fsdp_resumes_after_a_signal(project: Path, tiny_llama: Path) -> None:
    Path("fsdp.yaml").write_text(FSDP)
    launch = {**TWO, "strategy": "fsdp", "config": "fsdp.yaml"}
    config = prepare(project, tiny_llama, **{**LONG, "max_steps": 30, "lora": {"rank": 4}}, launch=launch)
    stage.run(config)
    digest = trained_digest()
    process = start()
    wait_for_step(3, process)
    process.send_signal(signal.SIGTERM)
    _, output = process.communicate(timeout=60)
    assert process.returncode == 143, output
    again = start()
    _, output = again.communicate(timeout=120)
    assert again.returncode == 0, output
    assert "resumes from step" in output
    assert trained_digest() == digest


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
        test_classify.prepare(project, folder, **SMALL, launch=TWO), test_classify.prepare(project, folder, **SMALL)
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
