"""The digests of the model's files and templates in a receipt are compared with the files in DVC."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.audit.canary import canary_level_problems
from tasks.audit.digests import Digests
from tasks.audit.made import _of_receipt
from tasks.model_store.canaries import CanaryPlan
from tasks.model_store.template_digests import template_digests
from tasks.runtime.files import content_digest, file_digest

TEMPLATES = {"families": {"情感": {"kind": "classification", "templates": [{"id": "zh-1", "user": "{{ input }}"}]}}}


@pytest.fixture
def version(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A receipt and the files of its model."""
    (tmp_path / "a.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "templates.json").write_text(json.dumps(TEMPLATES))
    digests = {path.name: file_digest(path) for path in tmp_path.iterdir()}
    weights = content_digest([["a.safetensors", digests["a.safetensors"]]])
    receipt = {"files": digests, "weights": weights, "templates": template_digests(TEMPLATES)}
    return receipt, {path.name: SimpleNamespace(path=path) for path in tmp_path.iterdir()}


def problems(receipt: dict[str, Any], files: dict[str, Any]) -> list[str]:
    subject: Any = SimpleNamespace(receipt=receipt, digests=Digests(reads_all=True))
    return _of_receipt(subject, files)


def test_those_of_an_untouched_version_are_equal_and_an_earlier_receipt_has_none(version: Any) -> None:
    assert problems(*version) == []
    assert problems({"weights": "w"}, version[1]) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"files": {"a.safetensors": "0" * 64}}, "its weights in the receipt are others"),
        ({"files": {"tokenizer.json": "0" * 64}}, "data/model/tokenizer.json is not the receipt's"),
        ({"files": {"more.json": "0" * 64}}, "data/model/more.json is not the receipt's"),
        ({"templates": {"情感": "0" * 64}}, "the templates in data/model/templates.json are not the receipt's"),
        ({"templates": {"qa": "0" * 64}}, "the templates in data/model/templates.json are not the receipt's"),
    ],
)
def test_every_other_digest_is_reported(version: Any, changes: dict[str, Any], expected: str) -> None:
    receipt, files = version
    assert problems({**receipt, **{key: receipt[key] | more for key, more in changes.items()}}, files) == [expected]


def test_the_level_for_a_canary_follows_from_the_parameters_and_the_round() -> None:
    def receipt(**verdict: Any) -> dict[str, Any]:
        return {
            "params": {"gate": {"alpha": 0.05, "canary_share": 0.5}},
            "round": {"alpha_spent": 0.5, "most_rows": 100},
            "verdict": {"test_rows": 200, **verdict},
        }

    def began(level: float) -> Any:
        details = CanaryPlan(champion=1, share=0.1, level=level).text
        return SimpleNamespace(kind="canary", when="monday", details=details, read_details=lambda: json.loads(details))

    whole = receipt(canary_level=0.0125)  # twice the rows restore what was spent
    assert list(canary_level_problems(whole, [began(0.0125), began(0.0)])) == []
    assert len(list(canary_level_problems(whole, [began(0.02)]))) == 1
    assert "its parameters and its round give 0.0125" in next(canary_level_problems(receipt(canary_level=0.025), []))
    assert len(list(canary_level_problems(receipt(), []))) == 1
    earlier = {"params": {"gate": {"alpha": 0.05}}, "verdict": {"test_rows": 200}}
    assert list(canary_level_problems(earlier, [])) == []
