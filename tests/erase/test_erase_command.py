"""The command: its report, its reason, its dry run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.erasing import SECRET, files_with, ids_of

from flows.cli import main
from tasks import paths
from tasks.erase.stage import erase
from tasks.state.decisions import read_decisions
from tasks.state.erasures import read_erasures

pytestmark = pytest.mark.usefixtures("warm")


def test_the_command_reports_what_it_erased_and_what_it_cannot_erase(
    world: Path, capsys: Any, monkeypatch: Any
) -> None:
    from tasks.lineage import row_history

    monkeypatch.setattr(row_history, "registered_versions", lambda model: [])
    ids = ids_of(SECRET)
    assert main.run(["rows", "forget", *ids, "--erase", "--dry-run"]) == 0
    assert "2 rows would be erased" in capsys.readouterr().out
    assert files_with(SECRET, paths.RAW)
    assert main.run(["rows", "forget", *ids, "--erase", "--why", "asked to"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 rows are erased" in out
    assert "remote store" in out
    assert "backups" in out
    assert main.run(["rows", "why", ids[0]]) == 0
    assert "was erased" in capsys.readouterr().out
    assert main.run(["rows", "forget", "--erase"]) == 0
    assert "No erasure was interrupted" in capsys.readouterr().out


def test_without_a_reason_nothing_is_erased(world: Path, capsys: Any) -> None:
    assert main.run(["rows", "forget", ids_of(SECRET)[0], "--erase"]) == 1
    assert "a reason is missing" in capsys.readouterr().err
    assert files_with(SECRET, paths.RAW)


def test_a_reason_may_contain_any_character(world: Path) -> None:
    erase(ids_of(SECRET)[:1], why="asked\u2028to\u0085by")
    assert read_erasures()[-1].why == "asked\u2028to\u0085by"
    assert read_decisions()[-1].why
    erase(ids_of(SECRET), why="asked to")
