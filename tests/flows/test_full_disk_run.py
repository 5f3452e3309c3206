"""A full disk during a run, also for Prefect's database and DVC's cache: one line, soon, and the next run continues."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import wait_for
from support.toyflow import command, facts, make_toy_flow, without_prefect

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(600)]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
    return ballast


AS_OUR_STAGES_DO = """
try:
    globals()[sys.argv[1]]()
except Exception as error:
    from tasks.errors import disk_message
    sys.exit(f"strop: {disk_message(error)}")
"""
"""The toy's stages end as `python -m tasks` does where the disk is full."""


@pytest.mark.slow
def test_a_full_disk_ends_the_run_in_one_line_and_the_next_run_continues(tmp_path: Path, small_disk: Path) -> None:
    root = small_disk / "project"
    shutil.copytree(make_toy_flow(tmp_path / "made"), root, symlinks=True)
    stages = (root / "toy.py").read_text()
    (root / "toy.py").write_text(stages.replace("globals()[sys.argv[1]]()", AS_OUR_STAGES_DO))
    log = tmp_path / "log"
    run = subprocess.Popen(
        command("run"), cwd=root, env=without_prefect(), stdout=log.open("w"), stderr=subprocess.STDOUT
    )
    wait_for(lambda: (root / "data/validated").exists() or run.poll() is not None, 180, "the first stage")
    ballast = fill(small_disk)
    before = time.monotonic()
    code = run.wait(180)
    seconds, written = time.monotonic() - before, log.read_text()
    ballast.unlink()
    assert code == 1, written
    assert "Traceback" not in written, written
    assert "SQL" not in written, written
    lines = [line for line in written.splitlines() if line.startswith("strop: ")]
    assert any("no space left" in line for line in lines), written
    assert seconds < 60, written
    last = subprocess.run(command("run"), cwd=root, env=without_prefect(), capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stdout + last.stderr
    assert [entry["kind"] for entry in facts(root, "history")] == ["judged", "promoted"]
