"""One run at a time, and how it is interrupted."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from support.processes import command_line, wait_for
from support.toyflow import command, environment, facts, make_toy_flow


@pytest.mark.parametrize(
    "kind", [signal.SIGINT, *(pytest.param(kind, marks=pytest.mark.slow) for kind in (signal.SIGTERM, signal.SIGKILL))]
)
@pytest.mark.chaos
def test_an_interrupted_run_leaves_no_process_and_the_next_completes(kind: signal.Signals, tmp_path: Path) -> None:
    root = make_toy_flow(tmp_path / "project")
    toy = (root / "toy.py").read_text()
    slow = "import time; from tasks.runtime.parent_watchdog import end_with_parent"
    slow += "; end_with_parent(); Path('began').touch(); time.sleep(600)"
    (root / "toy.py").write_text(toy.replace("def render():", f"def render():\n    {slow}"))
    process = subprocess.Popen(
        command("run"), cwd=root, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: (root / ".strop/work/began").exists(), 120, "the stage")
    family = psutil.Process(process.pid).children(recursive=True)
    assert any(command_line(child)[1:] == ["toy.py", "render"] for child in family)
    second = subprocess.run(command("run"), cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert second.returncode == 1
    assert "a run is in progress already" in second.stderr
    process.send_signal(kind)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    if kind is signal.SIGKILL:
        assert process.returncode == -signal.SIGKILL
    else:
        assert process.returncode == 1
        assert "stopped" in err
    _, alive = psutil.wait_procs(family, timeout=15)
    assert alive == []
    (root / "toy.py").write_text(toy)
    assert facts(root, "run")["kind"] == "promoted"
