"""The page of a version: what a person wants to know of it first, from its receipt, within MLflow's limit."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.register.version_page import MOST_ROWS, version_page
from tasks.tracking.version_links import with_addresses

HOSTILE = "x|<script>alert(1)</script>\u202e[a](http://b)"


def receipt(**changes: Any) -> dict[str, Any]:
    def family(score: float) -> dict[str, Any]:
        return {"rows": 40, "measure": "token F1", "score": score, "interval": [score - 0.1, score + 0.1]}

    check = {"name": "better", "family": None, "passed": False, "tier": "critical", "detail": ""}
    models = {"base": {"families": {"情感": family(0.2)}}, "candidate": {"families": {"情感": family(0.9)}}}
    return {
        "weights": "b" * 64, "dataset": "d" * 32 + ".dir", "commit": "c" * 40, "templates": {"情感": "a" * 64},
        "base": {"kind": "hub", "id": "org/tiny-1.0", "digest": "e" * 64},
        "params": {"finetune": {"objective": "sft", "method": "lora"}},
        "manifest": [{"batch": "b1", "rows": 12}, {"batch": "b2", "rows": 30}],
        "verdict": {"passed": False, "outcome": "refused", "champion_version": 2, "test_rows": 80, "checks": [check]},
        "metrics": {"models": models},
    } | changes  # fmt: skip


def test_it_says_verdict_numbers_data_base_and_templates() -> None:
    page = version_page(receipt(), "strop-model", 3)
    for fact in (
        "**The gate refused it**, compared with version 2, the champion at that time on 80 test rows. Checks that failed: better.",
        "| 情感 | token F1 | 0.200 (0.100 to 0.300) | 0.900 (0.800 to 1.000) |",
        "org/tiny-1.0, digest `eeeeeeeeeeeeeeee`", f"`{'d' * 32}.dir` of 42 collected rows", "tag `strop-model@v3`",
        "情感 `aaaaaaaaaaaa`", "`llm/v1/chat`", "[ML-BOM](run:bom.cdx.json)", "`strop audit 3`",
    ):  # fmt: skip
        assert fact in page, fact


def test_its_links_lead_to_the_files_of_the_run() -> None:
    page = with_addresses(version_page(receipt(), "strop-model", 3), "7", "abc")
    assert "[model card](#/experiments/7/runs/abc/artifactPath/README.md)" in page
    assert "run:" not in page


@pytest.mark.parametrize("count", [MOST_ROWS, MOST_ROWS + 1, 400])
def test_many_families_with_long_names_fit_into_the_column_of_mlflow(count: int) -> None:
    families = {f"{HOSTILE}{'长' * 200}{n}": {"rows": 1, "measure": "token F1", "score": 0.5} for n in range(count)}
    templates = dict.fromkeys(families, "a" * 64)
    page = version_page(
        receipt(metrics={"models": {"candidate": {"families": families}}}, templates=templates), "m" * 100, 10
    )
    assert len(with_addresses(page, "123456789012345678", "a" * 32)) <= 5000
    assert "The gate refused it" in page
    assert "<script>" not in page
    assert "](http" not in page
    assert "\u202e" not in page


def test_a_path_and_a_secret_are_not_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hunter2-hunter2")
    local = {"kind": "folder", "id": "/home/someone/model", "digest": "e" * 64}
    page = version_page(receipt(base=local, params={"finetune": {"objective": "hunter2-hunter2"}}), "strop-model", 1)
    assert "/home/someone" not in page
    assert "hunter2" not in page


def test_a_receipt_without_metrics_still_has_a_page() -> None:
    page = version_page(receipt(metrics={}, manifest=[], params={}, templates={}), "strop-model", 1)
    assert "The gate refused it" in page
