"""A training that is killed with -9, again and again, at random steps: it ends with the weights of one that never was."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_finetune import prepare, trained_digest

from tasks import paths

STEPS = 24
KILLS = 5
PATIENCE_SECONDS = 120


def start() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tasks", "finetune"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": str(Path.cwd())})


def last_step() -> int:
    """The last step that the running training told of."""
    events = paths.EVENTS / "finetune.jsonl"
    lines = events.read_text().splitlines() if events.exists() else []
    steps = [json.loads(line)["step"] for line in lines if line.endswith("}")]
    return int(max(steps, default=-1))


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_killed_at_five_random_steps_it_ends_with_the_weights_of_the_uninterrupted_one(
    project: Path, tiny_llama: Path
) -> None:
    prepare(project, tiny_llama, max_steps=STEPS, checkpoint_every_steps=2, lora={"dropout": 0.1})
    assert start().wait() == 0
    digest = trained_digest()
    chosen = sorted(random.Random(time.time()).sample(range(1, STEPS - 1), KILLS))
    for step in chosen:
        (paths.EVENTS / "finetune.jsonl").unlink(missing_ok=True)
        process = start()
        until = time.monotonic() + PATIENCE_SECONDS
        while last_step() < step and process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start().wait() == 0
    assert trained_digest() == digest, f"killed at steps {chosen}"
