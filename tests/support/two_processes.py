"""A training in two processes: its losses and weights, its start and its worker processes."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import psutil
import pytest
import torch
from safetensors.torch import load_file

from support.processes import command_line
from tasks import paths
from tasks.config import PipelineConfig
from tasks.finetune import stage
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
