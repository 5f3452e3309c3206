"""kill -9 of the flow, of DVC and of the stage in turn: no process is left behind, and the next run completes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from support.processes import command_line, wait_for
from support.project import params, write_params
from support.tiny_models import make_tiny_gpt2
from support.toy_rows import qa_records, topic_records, write_jsonl
from support.toyflow import command, without_prefect

from tasks import paths
from tasks.base.weights_digest import weights_digest

# three whole runs, on a machine that may be busy; test_interrupted_run.py kills the flow of a toy by default
pytestmark = [pytest.mark.slow, pytest.mark.chaos, pytest.mark.timeout(600)]

STEPS = 400


@pytest.fixture
def long_training(project: Path, tmp_path: Path) -> Path:
    """A project whose training takes long enough to be killed in."""
    write_jsonl(project / "inbox/news.jsonl", topic_records(40))
    write_jsonl(project / "inbox/faq.jsonl", qa_records(20))
    sources = [
        {"name": "news", "path": "inbox/news*", "shape": "text_label", "family": "topic"},
        {"name": "faq", "path": "inbox/faq*", "shape": "alpaca", "family": "qa"},
    ]
    training = {"max_steps": STEPS, "checkpoint_every_steps": 10, "evaluations_per_epoch": 0, "precision": "fp32"}
    write_params(project, params(make_tiny_gpt2(tmp_path / "base"), sources, finetune=training))
    return project


def start(*arguments: str) -> subprocess.Popen[str]:
    active = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # `python` of dvc.yaml is ours
    environment = without_prefect(HF_HUB_OFFLINE="1", PATH=active)
    return subprocess.Popen(arguments, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def ours(project: Path) -> list[psutil.Process]:
    """Processes that work in the project, but for this one."""
    processes = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()).is_relative_to(project):
                processes.append(process)
        except (psutil.Error, OSError):
            continue
    return processes


def reached() -> int:
    """The step of the last whole checkpoint."""
    whole = Path(".strop/checkpoints").glob("*/checkpoint-*/complete")
    return max((int(mark.parent.name.removeprefix("checkpoint-")) for mark in whole), default=0)


def wait_for_training(process: subprocess.Popen[str]) -> None:
    """Until the training that the process started, or went on with, has kept a checkpoint."""
    before = reached()
    wait_for(lambda: reached() > before or process.poll() is not None, 180, "a checkpoint")
    assert process.poll() is None, process.communicate()


def stages_of(project: Path) -> list[psutil.Process]:
    return [process for process in ours(project) if command_line(process)[1:] == ["-m", "tasks", "finetune"]]


def wait_for_the_end_of_all(project: Path, killed: str) -> None:
    """Also of a training that had far to go."""
    wait_for(lambda: not ours(project), 20, f"the end of every process after {killed} was killed")
    assert not paths.MODEL.exists(), "the training came to its end by itself"


def test_a_kill_leaves_no_process_behind_and_the_next_run_completes(long_training: Path) -> None:
    flow = start(*command("run"))
    wait_for_training(flow)
    flow.kill()
    flow.wait()  # its pipes may be held open by what it left behind
    wait_for_the_end_of_all(long_training, "the flow")

    assert start(sys.executable, "-m", "tasks", "ingest").wait() == 0
    dvc = start(sys.executable, "-m", "dvc", "repro")
    wait_for_training(dvc)
    dvc.kill()
    dvc.wait()
    wait_for_the_end_of_all(long_training, "DVC")

    flow = start(*command("run"))
    wait_for_training(flow)
    (stage,) = stages_of(long_training)
    stage.kill()
    out, err = flow.communicate(timeout=120)
    assert flow.returncode == 1, (out, err)
    assert "finetune" in err
    assert "Traceback" not in err
    wait_for_the_end_of_all(long_training, "the stage")

    last = start(*command("run"))
    out, err = last.communicate(timeout=280)
    assert last.returncode in (0, 3), (out, err)
    assert "resumes from step" in err
    wait_for(lambda: not ours(long_training), 20, "the end of every process")
    digest = weights_digest(paths.MODEL)
    assert start(sys.executable, "-m", "tasks", "finetune").wait(120) == 0
    assert weights_digest(paths.MODEL) == digest  # those of a training that nobody killed
