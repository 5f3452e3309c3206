"""kill -9 of the flow, of DVC and of the stage in turn: no process is left behind, and the next run completes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from conftest import make_tiny_gpt2, params, qa_records, topic_records, write_jsonl, write_params
from toyflow import command, without_prefect

from tasks import paths
from tasks.weights import weights_digest

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]  # three whole runs, on a machine that may be busy

STEPS = 60


@pytest.fixture
def long_training(project: Path, tmp_path: Path) -> Path:
    """A project whose training takes long enough to be killed in."""
    write_jsonl(project / "inbox/news.jsonl", topic_records(40))
    write_jsonl(project / "inbox/faq.jsonl", qa_records(20))
    sources = [
        {"name": "news", "path": "inbox/news*", "shape": "text_label", "family": "topic"},
        {"name": "faq", "path": "inbox/faq*", "shape": "alpaca", "family": "qa"},
    ]
    training = {"max_steps": STEPS, "checkpoint_every_steps": 5, "evaluations_per_epoch": 0, "precision": "fp32"}
    write_params(project, params(make_tiny_gpt2(tmp_path / "base"), sources, finetune=training))
    return project


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        arguments, env=without_prefect(HF_HUB_OFFLINE="1"), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def ours(project: Path) -> list[psutil.Process]:
    """Processes that work in the project, but for this one."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(project):
                found.append(process)
        except (psutil.Error, OSError):
            continue
    return found


def wait_for(condition: Callable[[], object], seconds: float, what: str) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} not within {seconds} s"
        time.sleep(0.1)


def is_training() -> bool:
    checkpoints = list(Path(".strop/checkpoints").glob("*/checkpoint-*/complete"))
    return bool(checkpoints)


def stage_of(project: Path) -> psutil.Process:
    (stage,) = [p for p in ours(project) if p.cmdline()[1:] == ["-m", "tasks", "finetune"]]
    return stage


def test_a_kill_leaves_no_process_behind_and_the_next_run_completes(long_training: Path) -> None:
    def none_is_left() -> bool:
        return not ours(long_training)

    flow = start(*command("run"))
    wait_for(is_training, 180, "training")
    flow.kill()
    flow.communicate()
    wait_for(none_is_left, 20, "the end of every process after the flow was killed")

    assert start(sys.executable, "-m", "tasks", "ingest").wait() == 0
    dvc = start(sys.executable, "-m", "dvc", "repro")
    wait_for(lambda: [p for p in ours(long_training) if "finetune" in p.cmdline()], 180, "the stage")
    dvc.kill()
    dvc.communicate()
    wait_for(none_is_left, 20, "the end of every process after DVC was killed")

    flow = start(*command("run"))
    wait_for(lambda: [p for p in ours(long_training) if "finetune" in p.cmdline()], 180, "the stage")
    wait_for(lambda: stage_of(long_training), 10, "one stage")
    stage_of(long_training).send_signal(signal.SIGKILL)
    out, err = flow.communicate(timeout=120)
    assert flow.returncode == 1, (out, err)
    assert "finetune" in err
    assert "Traceback" not in err
    wait_for(none_is_left, 20, "the end of every process after the stage was killed")

    last = start(*command("run"))
    out, err = last.communicate(timeout=280)
    assert last.returncode in (0, 3), (out, err)
    assert "goes on from step" in out
    wait_for(none_is_left, 20, "the end of every process")
    digest = weights_digest(paths.MODEL)
    assert start(sys.executable, "-m", "tasks", "finetune").wait(120) == 0
    assert weights_digest(paths.MODEL) == digest  # those of a training that nobody killed
