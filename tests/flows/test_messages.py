"""Messages that confused new users, each with its fix."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.project import REPOSITORY, params, write_params

from flows.cli import quarantine
from flows.doctor import examine
from tasks import paths
from tasks.gate.pairing import PairedScores
from tasks.gate.policy import decide
from tasks.gate.settings import GateSettings
from tasks.state.round import Round


def test_the_help_of_the_stages_lists_them_with_what_each_makes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tasks", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0
    for line in ("  curate     clean, ", "  gate       decide about promotion", "dvc repro STAGE", "strop run"):
        assert line in done.stdout


def test_the_doctor_finds_conflict_markers_in_dvc_lock(project: Path) -> None:
    write_params(project, params("x", []))
    subprocess.run(["git", "init", "-q"], check=True)
    paths.DVC_LOCK.write_text("schema: '2.0'\n<<<<<<< HEAD\nstages: {}\n=======\nstages: {a: 1}\n>>>>>>> other\n")
    finding = examine._checked("dvc", examine._dvc)
    assert finding.state == "wrong"
    assert "dvc.lock" in finding.text
    assert finding.fix == "Remove it, then run again: unchanged outputs are restored from DVC's cache"


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_quarantine_shows_row_and_reason_at_any_width_beside_chinese_values(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"row_id": "3f2a9c01" * 4, "reason": "encoding_damage", "file": "inbox/很长的文件名/新闻" * 3, "line": 7}
    rows = [{**row, "value": "浣犲ソ锛屼笘鐣" * 20}, {**row, "reason": "duplicate", "value": row["row_id"]}]
    out = Console(width=width, record=True, force_terminal=False)
    monkeypatch.setattr(quarantine, "console", lambda: out)
    quarantine._show_rows(rows)
    text = out.export_text()
    assert text.count("3f2a9c013f2a") == 2
    assert "encoding_damage" in text
    assert "duplicate" in text
    assert all(len(line) <= width for line in text.splitlines())
    assert width < 140 or "duplicate of an earlier row" in text


def test_the_gate_reports_the_rows_that_better_leaves_out() -> None:
    family = np.array(["qa"] * 40 + ["topic"] * 5)
    scores = PairedScores(family, np.zeros(45), np.ones(45), np.array(["b"] * 45))
    verdict = decide(scores, GateSettings(min_rows=20, bootstrap_samples=500), Round(None, 1, 0))
    (better,) = [check for check in verdict.checks if check.name == "better"]
    assert "+1.000] (without 5 rows of families with fewer than 20), 40 rows gained" in better.detail


def test_data_diff_compares_the_newest_version_with_now(
    monkeypatch: pytest.MonkeyPatch, project: Path, strop: Any
) -> None:
    from tasks.lineage import diff, version_data

    write_params(project, params("x", []))
    calls = []
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [1, 2])
    monkeypatch.setattr(diff, "difference", lambda *arguments: calls.append(arguments) or diff.Difference(1, 2))
    assert strop("data", "diff")[0] == 0
    assert calls == [("tiny", "v2", "now")]
    monkeypatch.setattr(version_data, "registered_versions", lambda model: [])
    code, _, err = strop("data", "diff")
    assert (code, "no version yet" in err) == (1, True)
