"""A training that is killed with -9 repeatedly at random steps ends with the weights of an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import toypreferences
from support.toy_training import prepare, trained_digest

from tasks import paths
from tasks.config import PipelineConfig
from tasks.finetune import stage

TRAININGS: dict[str, tuple[Callable[..., PipelineConfig], dict[str, Any]]] = {
    "sft": (prepare, {"lora": {"dropout": 0.1}}),
    "dpo": (toypreferences.prepare, {"micro_batch_rows": 2}),
}

EVENTS = paths.EVENTS / "finetune.jsonl"
STEPS = 24
KILLS = 5
PATIENCE_SECONDS = 120


def start(config: PipelineConfig) -> int:
    """Trains in a forked process, which need not load torch again; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        stage.run(config)
        code = 0
    finally:
        os._exit(code)


def ended(child: int, wait: bool) -> int | None:
    """The child's exit status; None while it runs."""
    pid, status = os.waitpid(child, 0 if wait else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if pid else None


def logged_steps() -> list[int]:
    """The steps that the training logged since the file was removed."""
    lines = EVENTS.read_text().splitlines() if EVENTS.exists() else []
    return [json.loads(line)["step"] for line in lines if line.endswith("}")]


def last_step() -> int:
    return max(logged_steps(), default=-1)


@pytest.mark.chaos
@pytest.mark.timeout(600)
@pytest.mark.parametrize("objective", ["sft", pytest.param("dpo", marks=pytest.mark.slow)])
def test_killed_at_five_random_steps_it_ends_with_the_weights_of_an_uninterrupted_training(
    objective: str, project: Path, tiny_llama: Path
) -> None:
    set_up, settings = TRAININGS[objective]
    config = set_up(project, tiny_llama, objective=objective, max_steps=STEPS, checkpoint_every_steps=2, **settings)
    assert ended(start(config), wait=True) == 0
    digest = trained_digest()
    chosen = sorted(random.Random(time.time()).sample(range(1, STEPS - 1), KILLS))
    for step in chosen:
        EVENTS.unlink()
        child, code = start(config), None
        until = time.monotonic() + PATIENCE_SECONDS
        while last_step() < step and code is None and time.monotonic() < until:
            code = ended(child, wait=False)
        if code is None:
            os.kill(child, signal.SIGKILL)
            code = ended(child, wait=True)
        assert code == -signal.SIGKILL, f"it ended by itself before step {step}"
        assert last_step() >= step, f"it reached step {last_step()} in {PATIENCE_SECONDS} s"
    EVENTS.unlink()
    assert ended(start(config), wait=True) == 0
    assert min(logged_steps()) > 1, "it restarted"
    assert trained_digest() == digest, f"killed at steps {chosen}"
