"""Several processes that are signalled, killed or fail: one checkpoint, one message, no process left."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.toy_training import prepare, trained_digest
from support.two_processes import LONG, SMALL, TWO, start, wait_for_step

from tasks import paths
from tasks.errors import TrainingError
from tasks.finetune import stage


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
