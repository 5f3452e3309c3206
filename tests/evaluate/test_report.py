"""metrics.json: scores overall and by family, class and language, with intervals."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.evaluate.predictions import score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings

SETTINGS = EvaluateSettings(bootstrap_samples=500)


def row(number: int, family: str, kind: str, target: str, language: str = "en") -> dict[str, Any]:
    shown = {"batch": "b", "prompt": f"question {number}", "prompt_ids": [number]}
    return {"row_id": f"r{number}", "family": family, "kind": kind, "language": language, "target": target, **shown}


TEST = [
    row(1, "topic", "classification", "sport"),
    row(2, "topic", "classification", "体育", "zh"),
    row(3, "qa", "qa", "它叫北京。", "zh"),
    row(4, "qa", "qa", "City 4."),
]


def test_every_row_keeps_its_answer_score_and_exact_match() -> None:
    rows = score_rows(TEST, ["Sport.", "科技", "它叫上海。", "city 4"])
    assert [r["score"] for r in rows] == [1.0, 0.0, 0.5, 1.0]
    assert [r["exact"] for r in rows] == [True, False, False, True]
    assert "prompt_ids" not in rows[0]
    assert rows[0]["prediction"] == "Sport."


def test_the_report_has_families_and_languages() -> None:
    report = describe_model(score_rows(TEST, ["sport", "体育", "它叫上海。", "City 4."]), SETTINGS)
    topic, qa = report["families"]["topic"], report["families"]["qa"]
    assert topic["macro_f1"] == 1.0
    assert topic["per_class"]["体育"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "rows": 1}
    assert qa["token_f1"] == qa["score"] == 0.75
    assert qa["exact_match"] == 0.5
    assert qa["languages"]["zh"]["score"] == 0.5
    assert qa["languages"]["en"]["score"] == 1.0
    for part in (topic, qa, *qa["languages"].values()):
        low, high = part["interval"]
        assert 0 <= low <= part["score"] <= high <= 1


def test_the_report_is_the_same_each_time_and_plain_json() -> None:
    rows = score_rows(TEST, ["sport", "体育", "它叫上海。", "City"])
    first, again = (json.dumps(describe_model(rows, SETTINGS), allow_nan=False) for _ in range(2))
    assert first == again


def test_only_rows_of_one_metric_have_a_mean_over_all_families() -> None:
    answers = score_rows(TEST, ["sport", "体育", "它叫上海。", "City 4."])
    assert "overall" not in describe_model(answers, SETTINGS)
    assert "overall" not in describe_model([], SETTINGS)
    also_qa = [{**answer, "family": "trivia"} for answer in answers[3:]]
    overall = describe_model([*answers[2:], *also_qa], SETTINGS)["overall"]
    assert (overall["rows"], overall["score"]) == (3, pytest.approx(5 / 6))
