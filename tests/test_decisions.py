"""Decisions are an append-only log: many at once are as good as one by one, and the last on a row holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from tasks.errors import DataError
from tasks.state.decisions import (
    decided_rows,
    excluded_batches,
    read_decisions,
    record_decision,
    record_decisions,
)


def test_many_decisions_are_read_back_in_order(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    record_decision("exclude", "b1", "错了", log)
    made = record_decisions("release", ["r1", "r2", "r3"], "it is fine", log)
    assert [each.which for each in read_decisions(log)] == ["b1", "r1", "r2", "r3"]
    assert read_decisions(log)[1:] == made
    assert len({(each.who, each.when, each.why) for each in made}) == 1
    assert record_decisions("release", [], "none", log) == []
    assert len(log.read_text(encoding="utf-8").splitlines()) == 4


def test_a_line_that_a_crash_tore_is_closed_before_more_are_written(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    log.write_text('{"what": "rel', encoding="utf-8")
    record_decisions("drop", ["r1", "r2"], "wrong", log)
    assert log.read_text(encoding="utf-8").count("\n") == 3
    with pytest.raises(DataError, match=r"line 1: not a decision .* Fix or remove the line"):
        read_decisions(log)


def test_the_last_decision_on_a_row_or_batch_holds(tmp_path: Path) -> None:
    log = tmp_path / "decisions.jsonl"
    record_decisions("release", ["r1", "r2"], "fine", log)
    record_decision("drop", "r1", "not fine", log)
    record_decision("exclude", "b1", "doubtful", log)
    decisions = read_decisions(log)
    assert decided_rows(decisions, "release") == {"r2"}
    assert decided_rows(decisions, "drop") == {"r1"}
    assert excluded_batches(decisions) == {"b1"}
    record_decision("include", "b1", "sound", log)
    assert excluded_batches(read_decisions(log)) == set()
