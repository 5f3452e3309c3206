"""Data Docs and row verdicts cannot differ; an expectation that raises is a bug of Strop, never bad data."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.toy_contract import CONTRACT, alpaca, batch_of, judge, raw_of

from tasks import paths
from tasks.errors import DataError
from tasks.records.parse import to_rows
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import check_rules, merge_chunks
from tasks.validate.rules import rules


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


RECORDS: list[Any] = [alpaca("fine"), alpaca(""), alpaca("\ufffd"), alpaca(3), b"torn", alpaca("好", "说好")]


def frame_of(records: list[Any], is_large: bool = False) -> Any:
    """What Great Expectations is given of the records, where they are a chunk, and where they are a large batch."""
    from tasks.validate.gx.expectations import recorded_frame, rows_frame

    raw = raw_of(records)
    table = to_rows(raw, batch_of(raw))
    return (
        recorded_frame(merge_chunks([check_rules(table, CONTRACT.all)], CONTRACT.all), CONTRACT.all)
        if is_large
        else rows_frame(table)
    )


@pytest.mark.parametrize("is_large", [False, True])
def test_data_docs_show_the_same_counts_as_the_verdict(is_large: bool) -> None:
    from tasks.validate.gx.expectations import build_docs, check_batch

    judged = judge(raw_of(RECORDS), CONTRACT.all, 0.5)
    frame = frame_of(RECORDS, is_large)
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


def test_a_verdict_that_differs_from_the_suite_is_reported_as_a_bug() -> None:
    from tasks.validate.gx.expectations import check_batch

    frame = frame_of(RECORDS)
    facts = judge(raw_of(RECORDS), CONTRACT.all, 0.5).facts
    wrong = dataclasses.replace(facts, broken=facts.broken | {"empty_output": 0})
    with pytest.raises(DataError, match="check `empty_output` counts 1 rows where the verdict has 0; this is a bug"):
        check_batch(frame, CONTRACT.all, wrong, "instruction", 0.5)


def test_a_check_that_raises_is_not_bad_data(monkeypatch: pytest.MonkeyPatch) -> None:
    from tasks.validate.gx import expectations

    def breaks(*_: Any) -> Any:
        raise ZeroDivisionError("a bug in the predicate")

    frame = frame_of(RECORDS)
    facts = judge(raw_of(RECORDS), CONTRACT.all, 0.5).facts
    broken = [
        dataclasses.replace(r, is_good=breaks) if r.code == "empty_output" else r for r in rules.rules_of(CONTRACT.all)
    ]
    monkeypatch.setattr(expectations, "rules_of", lambda contract: broken)
    with pytest.raises(DataError, match=r"check `empty_output` raised \(.*a bug in the predicate.*\); this is a bug"):
        expectations.check_batch(frame, CONTRACT.all, facts, "instruction", 0.5)


@pytest.mark.parametrize("is_large", [False, True])
def test_a_contracts_own_rules_are_expectations_like_the_others(is_large: bool) -> None:
    from tasks.validate.gx.expectations import build_docs, check_batch, recorded_frame, rows_frame

    contract = FamilyContract.model_validate_json("""{"rules": [
        {"name": "no_urls", "field": "output", "must_not_match": "https?://"},
        {"name": "short_answer", "expression": "length(output) <= 4 * length(instruction)", "said": "答案不要太长"}]}""")
    raw = raw_of(
        [alpaca("http://a", "A long instruction"), alpaca("太长太长太长太长太长", "说"), alpaca("好", "说"), b"torn"]
    )
    judged = judge(raw, contract, 1.0)
    assert judged.facts.reasons == {"no_urls": 1, "not_parsed": 1, "short_answer": 1}
    table = to_rows(raw, batch_of(raw))
    frame = (
        recorded_frame(merge_chunks([check_rules(table, contract)], contract), contract)
        if is_large
        else rows_frame(table)
    )
    check_batch(frame, contract, judged.facts, "instruction", 1.0)
    assert build_docs() is None
    (page,) = paths.DATA_DOCS.glob("validations/**/*.html")
    shown = page.read_text(encoding="utf-8")
    assert "no_urls: The output does not match https?://" in shown
    assert "short_answer: 答案不要太长" in shown


@pytest.mark.parametrize("is_large", [False, True])
def test_data_docs_show_html_of_rows_and_rules_as_text(is_large: bool) -> None:
    from tasks.validate.gx.expectations import build_docs, check_batch, recorded_frame, rows_frame

    html = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    rule = {"name": "short_answer", "expression": "length(output) <= 4", "said": f"short {html}"}
    pattern = {"name": "no_html", "field": "output", "must_not_match": html}
    contract = FamilyContract.model_validate_json(json.dumps({"rules": [rule, pattern]}))
    raw = raw_of([alpaca(html, html), alpaca("好", "说")])
    table = to_rows(raw, batch_of(raw))
    frame = (
        recorded_frame(merge_chunks([check_rules(table, contract)], contract), contract)
        if is_large
        else rows_frame(table)
    )
    check_batch(frame, contract, judge(raw, contract, 1.0).facts, "instruction", 1.0)
    assert build_docs() is None
    pages = [page.read_text(encoding="utf-8") for page in paths.DATA_DOCS.rglob("*.html")]
    assert any("alert(1)" in page for page in pages)
    assert not any("<script>alert" in page or "<img src=x" in page for page in pages)
