"""The ML-BOM of a version: CycloneDX 1.6 as JSON, from its receipt alone. Pure; equal receipts give equal bytes.

    text = ml_bom(receipt, "strop-model")

It lists the model with its files, the base, the dataset with its batches, and the packages of the environment; the model card in it
has metrics, training settings and limits. It is a file of the version's run in MLflow, not of the logged model, like the model card
(model_card.py). It has no texts of rows, and no paths of this machine. `strop bom VERSION` prints it.
"""

from __future__ import annotations

import json
import uuid
from typing import Any
from urllib.parse import quote

from tasks.register.model_card import LIMITS, hub_id
from tasks.runtime.files import content_digest
from tasks.runtime.redaction.known import redact_values
from tasks.runtime.visible_text import printable
from tasks.state.verdict import outcome_of
from tasks.tracking.run_record import flat

BOM = "bom.cdx.json"
SPEC = "1.6"
APPROACHES = {"grpo": "reinforcement-learning", "pretrain": "self-supervised"}
"""Objective → the approach in CycloneDX's words; all others are supervised."""

Receipt = dict[str, Any]
Part = dict[str, Any]


def ml_bom(receipt: Receipt, name: str) -> str:
    """The content of bom.cdx.json."""
    key = content_digest(receipt)  # of the receipt as it is stored
    receipt = redact_values(receipt)
    packages = _packages(receipt)
    parts = [_base(receipt), _dataset(receipt, name), *packages]
    bom: Part = {
        "$schema": f"http://cyclonedx.org/schema/bom-{SPEC}.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": SPEC,
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, key)}",
        "version": 1,
        "metadata": {
            "tools": {"components": [_tool(receipt)]},
            "component": _model(receipt, name, key),
            "properties": _properties(_circumstances(receipt, key)),
        },
        "components": parts,
        "dependencies": [{"ref": "model", "dependsOn": sorted(part["bom-ref"] for part in parts)}],
    }
    if created := receipt.get("created"):
        bom["metadata"]["timestamp"] = created
    return json.dumps(bom, ensure_ascii=False, indent=1, sort_keys=True) + "\n"


def _tool(receipt: Receipt) -> Part:
    version = ((receipt.get("environment") or {}).get("packages") or {}).get("strop")
    return {"type": "application", "name": "strop"} | ({"version": version} if version else {})


def _model(receipt: Receipt, name: str, key: str) -> Part:
    files = [_file(path, digest) for path, digest in sorted((receipt.get("files") or {}).items())]
    return {
        "type": "machine-learning-model",
        "bom-ref": "model",
        "name": name,
        "version": key[:12],
        "components": files,
        "modelCard": _card(receipt, name),
        "properties": _properties({"weights": receipt["weights"]} | _settings(receipt)),
    }


def _file(path: str, sha256: str) -> Part:
    return {"type": "file", "name": printable(path), "hashes": [{"alg": "SHA-256", "content": sha256}]}


def _base(receipt: Receipt) -> Part:
    base = receipt.get("base") or {}
    identity = hub_id(receipt)
    part: Part = {
        "type": "machine-learning-model",
        "bom-ref": "base",
        "name": identity or "a local model",
        "components": [_file(path, digest) for path, digest in sorted((base.get("files") or {}).items())],
        "properties": _properties({"digest": base.get("digest")}),
    }
    if identity:
        revision = f"@{base['revision']}" if base.get("revision") else ""
        part |= {"purl": f"pkg:huggingface/{identity}{revision}"}
    return part | ({"version": base["revision"]} if base.get("revision") else {})


def _dataset(receipt: Receipt, name: str) -> Part:
    """The dataset; each collected batch is a part of it, with the digest of its file."""
    batches = [
        {
            "type": "data",
            "name": printable(f"{batch['source']}/{batch['batch']}"),
            "hashes": [{"alg": "SHA-256", "content": batch["sha256"]}],
            "properties": _properties({"rows": batch["rows"]}),
        }
        for batch in receipt.get("manifest") or ()
        if {"source", "batch", "sha256", "rows"} <= batch.keys()
    ]
    return {
        "type": "data",
        "bom-ref": "dataset",
        "name": f"{name} dataset",
        "version": receipt["dataset"],
        "data": [{"type": "dataset", "name": "rows for training, validation and test"}],
        "components": batches,
    }


def _packages(receipt: Receipt) -> list[Part]:
    packages = (receipt.get("environment") or {}).get("packages") or {}
    parts = []
    for name, version in sorted(packages.items()):
        purl = f"pkg:pypi/{quote(name, safe='.-_')}@{quote(version, safe='.-_')}"
        parts.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return parts


def _card(receipt: Receipt, name: str) -> Part:
    objective = str(_finetune(receipt).get("objective"))
    has_head = objective in ("classify", "reward")
    return {
        "modelParameters": {
            "approach": {"type": APPROACHES.get(objective, "supervised")},
            "task": "text-classification" if has_head else "text-generation",
            "datasets": [{"ref": "dataset"}],
            "inputs": [{"format": "text"}],
            "outputs": [{"format": "label and score" if has_head else "text"}],
        },
        "quantitativeAnalysis": {"performanceMetrics": _metrics(receipt)},
        "considerations": {"technicalLimitations": [LIMITS]},
    }


def _metrics(receipt: Receipt) -> list[Part]:
    """The scores of the candidate on the test rows, by family."""
    models = (receipt.get("metrics") or {}).get("models") or {}
    families = (models.get("candidate") or {}).get("families") or {}
    metrics = []
    for family, measured in sorted(families.items()):
        if measured.get("score") is None:
            continue
        metric: Part = {
            "type": measured.get("measure") or "score",
            "value": repr(float(measured["score"])),
            "slice": printable(family),
        }
        if ends := measured.get("interval"):
            metric["confidenceInterval"] = {"lowerBound": repr(float(ends[0])), "upperBound": repr(float(ends[1]))}
        metrics.append(metric)
    return metrics


def _finetune(receipt: Receipt) -> dict[str, Any]:
    return (receipt.get("params") or {}).get("finetune") or {}


def _settings(receipt: Receipt) -> dict[str, Any]:
    """The settings of the training; a path is nobody else's business."""
    settings = {f"finetune.{key}": value for key, value in flat(_finetune(receipt)).items()}
    return {
        key: value
        for key, value in settings.items()
        if isinstance(value, bool | int | float) or (isinstance(value, str) and "/" not in value and "\\" not in value)
    }


def _circumstances(receipt: Receipt, key: str) -> dict[str, Any]:
    environment, hardware = receipt.get("environment") or {}, receipt.get("hardware") or {}
    return {
        "receipt": key,
        "commit": receipt.get("commit"),
        "verdict": outcome_of(receipt["verdict"]),
        "python": environment.get("python"),
        "constraints": environment.get("constraints"),
        "system": hardware.get("system"),
        "processor": hardware.get("processor"),
        "gpus": ", ".join(hardware.get("gpus") or ()),
        **{f"template.{family}": digest for family, digest in (receipt.get("templates") or {}).items()},
    }


def _properties(values: dict[str, Any]) -> list[dict[str, str]]:
    def text(value: Any) -> str:
        return str(value).lower() if isinstance(value, bool) else printable(str(value))

    return [
        {"name": f"strop:{printable(name)}", "value": text(value)}
        for name, value in sorted(values.items())
        if value not in (None, "")
    ]
