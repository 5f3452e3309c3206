"""The ML-BOM is valid by CycloneDX's schema, says what the receipt says, and has no path or secret."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tasks.register.ml_bom import ml_bom
from tasks.runtime.files import content_digest

SHA = "a" * 64


def receipt(**changes: Any) -> dict[str, Any]:
    family = {"rows": 40, "measure": "exact match", "score": 0.9, "interval": [0.8, 1.0]}
    return {
        "created": "2026-11-30T10:00:00+00:00", "commit": "c" * 40,
        "weights": "b" * 64, "dataset": "d" * 32 + ".dir", "templates": {"情感": SHA},
        "files": {"adapter_model.safetensors": SHA, "tokenizer.json": SHA},
        "base": {"kind": "hub", "id": "org/tiny-1.0", "revision": "f" * 40, "digest": SHA, "files": {"model.safetensors": SHA}},
        "params": {"finetune": {"objective": "sft", "learning_rate": 0.0005, "lora": {"rank": 16}, "x": "/home/someone/x"}},
        "manifest": [{"source": "论坛", "batch": "77e7", "rows": 12, "sha256": SHA}],
        "environment": {"python": "3.11.7", "constraints": SHA, "packages": {"strop": "0.1.0", "torch": "2.13.0+cpu"}},
        "hardware": {"system": "Linux x86_64", "processor": "AMD EPYC", "gpus": []},
        "verdict": {"passed": True, "champion_version": None, "test_rows": 80, "look": 1, "test_epoch": 1, "checks": []},
        "metrics": {"models": {"candidate": {"families": {"情感": family}}}},
    } | changes  # fmt: skip


def errors(text: str) -> list[str]:
    """What CycloneDX's own validator says: no property that its schema does not know, and every rule of it."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return [str(error) for error in JsonStrictValidator(SchemaVersion.V1_6).validate_str(text, all_errors=True) or ()]


@pytest.mark.parametrize(
    "changes",
    [{}, {"base": {"kind": "folder", "id": "/home/someone/model", "digest": SHA, "files": {"model.safetensors": SHA}}},
     {"metrics": {}, "manifest": [], "params": {}, "environment": {}, "hardware": {}, "files": {}, "templates": {}}],
)  # fmt: skip
def test_it_is_valid(changes: dict[str, Any]) -> None:
    assert errors(ml_bom(receipt(**changes), "strop-model")) == []


def test_a_receipt_of_an_earlier_release_has_one_too() -> None:
    old = {key: value for key, value in receipt().items() if key not in ("created", "files", "templates")}
    assert errors(ml_bom(old, "strop-model")) == []
    assert "timestamp" not in json.loads(ml_bom(old, "strop-model"))["metadata"]


def test_invalid_ones_are_noticed() -> None:
    bom = json.loads(ml_bom(receipt(), "strop-model"))
    bom["components"][0]["licence"] = "MIT"
    assert errors(json.dumps(bom))


def test_it_says_what_the_receipt_says() -> None:
    bom = json.loads(ml_bom(receipt(), "strop-model"))
    model = bom["metadata"]["component"]
    assert [file["name"] for file in model["components"]] == ["adapter_model.safetensors", "tokenizer.json"]
    assert model["components"][0]["hashes"] == [{"alg": "SHA-256", "content": SHA}]
    (metric,) = model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert (metric["type"], metric["value"], metric["slice"]) == ("exact match", "0.9", "情感")
    assert {"name": "strop:finetune.lora.rank", "value": "16"} in model["properties"]
    parts = {part["bom-ref"]: part for part in bom["components"]}
    assert parts["base"]["purl"] == f"pkg:huggingface/org/tiny-1.0@{'f' * 40}"
    assert parts["dataset"]["version"] == "d" * 32 + ".dir"
    assert parts["dataset"]["components"][0]["name"] == "论坛/77e7"
    assert parts["pkg:pypi/torch@2.13.0%2Bcpu"]["version"] == "2.13.0+cpu"
    assert bom["metadata"]["timestamp"] == "2026-11-30T10:00:00+00:00"
    assert {"name": "strop:receipt", "value": content_digest(receipt())} in bom["metadata"]["properties"]


def test_equal_receipts_give_equal_bytes_and_others_another_serial_number() -> None:
    reordered = dict(reversed(receipt().items()))
    assert ml_bom(reordered, "strop-model") == ml_bom(receipt(), "strop-model")
    first, second = (json.loads(ml_bom(receipt(weights=w * 64), "strop-model"))["serialNumber"] for w in "bc")
    assert first != second


def test_it_has_no_path_of_a_local_base_and_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HUB_TOKEN", "hunter2-hunter2")
    local = {"kind": "folder", "id": "/home/someone/model", "digest": SHA, "files": {"model.safetensors": SHA}}
    text = ml_bom(receipt(base=local, params={"finetune": {"objective": "hunter2-hunter2"}}), "strop-model")
    assert "/home/someone" not in text
    assert "hunter2" not in text
    assert "/home/someone" not in ml_bom(receipt(), "strop-model")
