"""Data Docs and row verdicts cannot differ; a check that itself breaks is an error of ours, never bad data."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from test_judge import CONTRACT, alpaca, frame_of

from tasks import paths
from tasks.errors import DataError
from tasks.validate import rules
from tasks.validate.judge import judge


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RECORDS: list[Any] = [alpaca("fine"), alpaca(""), alpaca("\ufffd"), alpaca(3), b"torn", alpaca("好", "说好")]


def test_data_docs_show_the_same_counts_as_the_verdict() -> None:
    from tasks.validate.expectations import build_docs, check_batch

    frame = frame_of(RECORDS)
    judged = judge(frame, CONTRACT.all, 0.5)
    check_batch(frame, CONTRACT.all, judged.facts, "instruction", 0.5)
    assert build_docs() is None
    assert (paths.DATA_DOCS / "index.html").exists()
    (page,) = paths.DATA_DOCS.glob("validations/**/*.html")
    shown = re.sub(r"<[^>]+>|\s+", " ", page.read_text(encoding="utf-8"))
    assert "empty_output: The output is not empty" in shown
    assert "batch_set_aside: At most 50% of the rows are refused" in shown
    evaluated, failed = (re.search(rf"{word} Expectations\s+(\d+)", shown) for word in ("Evaluated", "Unsuccessful"))
    assert evaluated is not None
    assert failed is not None
    assert int(evaluated.group(1)) == len(rules.rules_of(CONTRACT.all)) + 2
    broken = [rule for rule, count in judged.facts.broken.items() if count]
    assert {"not_parsed", "wrong_type", "empty_output", "encoding_damage"} <= set(broken)
    assert int(failed.group(1)) == len(broken) + 1  # four of six rows are refused, and the bound is one half


def test_a_verdict_that_differs_from_the_suite_is_a_bug_of_ours() -> None:
    from tasks.validate.expectations import check_batch

    frame = frame_of(RECORDS)
    facts = judge(frame, CONTRACT.all, 0.5).facts
    wrong = dataclasses.replace(facts, broken=facts.broken | {"empty_output": 0})
    with pytest.raises(DataError, match="check `empty_output` found 1 rows where the verdict found 0; this is a bug"):
        check_batch(frame, CONTRACT.all, wrong, "instruction", 0.5)


def test_a_check_that_breaks_is_not_bad_data(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.validate import expectations

    def breaks(*_: Any) -> Any:
        raise ZeroDivisionError("a bug in the predicate")

    frame = frame_of(RECORDS)
    facts = judge(frame, CONTRACT.all, 0.5).facts
    rule = dataclasses.replace(expectations._RULE_OF["empty_output"], is_good=breaks)
    monkeypatch.setitem(expectations._RULE_OF, "empty_output", rule)
    with pytest.raises(
        DataError, match=r"check `empty_output` itself broke \(.*a bug in the predicate.*\); this is a bug"
    ):
        expectations.check_batch(frame, CONTRACT.all, facts, "instruction", 0.5)
