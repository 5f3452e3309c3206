"""The digests of the model's files and templates in a receipt are compared with the files in DVC."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasks.audit.digests import Digests
from tasks.audit.made import _of_receipt
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
