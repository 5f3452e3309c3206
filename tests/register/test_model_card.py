"""The model card: the Hub's library reads it, it says what was measured, and it has no path, secret or markup of a name."""

from __future__ import annotations

from typing import Any

import pytest
from huggingface_hub import ModelCard

from tasks.register.model_card import model_card

HOSTILE = "x|<script>alert(1)</script>\u202e[a](http://b)"


def receipt(**changes: Any) -> dict[str, Any]:
    def family(score: float, **more: Any) -> dict[str, Any]:
        interval = [score - 0.1, score + 0.1]
        return {
            "rows": 40,
            "measure": "exact match",
            "score": score,
            "interval": interval,
            "languages": {"zh": {}, "en": {}},
        } | more

    models = {
        "base": {"families": {"情感": family(0.2), HOSTILE: family(0.1)}},
        "candidate": {"families": {"情感": family(0.9), HOSTILE: family(0.5, measure="token F1")}},
    }
    check = {
        "name": f"not_worse/{HOSTILE}",
        "family": HOSTILE,
        "passed": True,
        "detail": "+0.100 [0.0, 0.2], not worse",
    }
    return {
        "weights": "w" * 64, "dataset": "d" * 32 + ".dir", "base": {"kind": "hub", "id": "org/tiny-1.0", "digest": "b" * 64},
        "params": {"finetune": {"objective": "sft", "method": "lora", "learning_rate": 0.0005, "lora": {"rank": 16}}},
        "manifest": [{"batch": "b1", "rows": 12}, {"batch": "b2", "rows": 30}],
        "verdict": {"passed": True, "champion_version": 2, "test_rows": 80, "look": 1, "test_epoch": 1, "checks": [check]},
        "metrics": {"models": models},
    } | changes  # fmt: skip


def test_the_library_of_the_hub_reads_its_metadata_and_results() -> None:
    data = ModelCard(model_card(receipt(), "strop-model")).data
    assert (data.base_model, data.library_name, data.pipeline_tag) == ("org/tiny-1.0", "peft", "text-generation")
    assert data.language == ["en", "zh"]
    first = data.eval_results[0]
    assert (first.dataset_name, first.metric_type, first.metric_value) == ("情感", "exact_match", 0.9)
    assert first.dataset_revision == "d" * 32 + ".dir"


def test_it_says_how_the_version_was_judged_trained_and_where_its_scores_end() -> None:
    text = model_card(receipt(), "strop-model")
    for fact in (
        "**passed**", "version 2, the champion at that time", "80 test rows", "0.900 (0.800 to 1.000)", "| rows | 42 |", "rank 16",
        "## Limits",
    ):  # fmt: skip
        assert fact in text, fact


def test_a_name_of_a_family_is_no_markup() -> None:
    text = model_card(receipt(), "strop-model")
    body = text.split("---\n", 2)[2]
    assert "<script>" not in body
    assert "](http" not in body
    assert "\u202e" not in text
    assert {line.count("|") for line in body.splitlines() if "worse/" in line} == {5}


@pytest.mark.parametrize("base", [{"kind": "folder", "id": "/home/someone/model", "digest": "b" * 64}, {}])
def test_the_path_of_a_local_base_is_not_in_it(base: dict[str, Any]) -> None:
    text = model_card(receipt(base=base), "strop-model")
    assert "/home/someone" not in text
    assert ModelCard(text).data.base_model is None


def test_a_secret_is_not_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hunter2-hunter2")
    leaking = receipt(params={"finetune": {"objective": "hunter2-hunter2"}})
    assert "hunter2" not in model_card(leaking, "strop-model")


def test_a_receipt_without_metrics_still_has_a_card() -> None:
    text = model_card(receipt(metrics={}, manifest=[], params={}), "strop-model")
    assert "No family has test rows." in text
    assert ModelCard(text).data.eval_results is None
