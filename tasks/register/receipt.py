"""The receipt: the complete record of how a version was made. Its digest is its name.

The fields in IDENTITY decide whether a candidate was registered already. The others (commit, machine) are recorded once and
kept as they are. A registration that was killed before its verdict is completed with its own receipt only while the settings are
those of the receipt: the commit of the version is made from the present ones.
"""

from __future__ import annotations

import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.base.pin import read_base
from tasks.base.weights_digest import weights_digest
from tasks.dataset.rendered import TEMPLATES
from tasks.errors import DataError
from tasks.model_store.ledger import head_of, now, read_ledger
from tasks.model_store.logged_files import NOT_LOGGED, digests
from tasks.model_store.template_digests import template_digests
from tasks.model_store.versions import version_receipt
from tasks.register.withdrawal import withdraw_unjudged
from tasks.runtime.files import (
    canonical_json,
    content_digest,
    damage_reason,
    file_digest,
    read_json,
    read_object,
    write_json,
)
from tasks.runtime.machine import hardware, installed_packages
from tasks.runtime.plugins import loaded_plugins
from tasks.runtime.redaction.known import redact_values
from tasks.state.decisions import read_decisions
from tasks.state.manifest import read_manifest
from tasks.state.round import read_round
from tasks.state.training_start import read_start
from tasks.tracking.registry import open_registry
from tasks.vcs import dvc_outputs, dvc_pipeline
from tasks.workspace.snapshot_commit import snapshot_now

if TYPE_CHECKING:
    from tasks.config import PipelineConfig

IDENTITY = ("weights", "dataset", "base", "round", "start", "verdict")


def obtain_receipt(config: PipelineConfig) -> dict[str, Any]:
    """The receipt of the candidate on this disk: the registered one, or a new one, written to data/reports. A version that a
    killed registration left with the receipt that was there before is removed.

    Raises:
        DataError: a file that the receipt needs is missing.
        RegistryError: a version must be removed, and the registry cannot be reached. The receipt is unchanged.
    """
    identity = _identity()
    # unchanged, because the audit compares them: secrets in params.yaml are refused when it is read
    params = config.model_dump(mode="json", by_alias=True)
    receipt = _earlier_receipt(config.register_.model_name, identity, params)
    if receipt is None:
        # keys in the order in which they are read again: MLflow's copy of a nested setting is then always the same
        circumstances = {**redact_values(_circumstances(config)), "params": params}
        receipt = json.loads(canonical_json({**identity, **circumstances}))
    before = read_object(paths.RECEIPT)
    if before != receipt:
        if before and not _is_judged(config.register_.model_name, before):
            withdraw_unjudged(open_registry(config), content_digest(before))
        write_json(paths.RECEIPT, receipt)
    return receipt


def _identity() -> dict[str, Any]:
    dataset = dvc_outputs.dataset_version()
    if dataset is None:
        raise DataError("there is no dataset in dvc.lock", where=str(paths.CURATED), fix="Make it: dvc repro curate")
    base = read_base()
    identity = {
        "weights": weights_digest(paths.MODEL),
        "dataset": dataset,
        "base": {**base.entry(), "digest": base.digest},
        "round": asdict(read_round()),
        "start": asdict(read_start()),
        "verdict": _read(paths.VERDICT),
    }
    read_back: dict[str, Any] = json.loads(canonical_json(identity))  # like a receipt on disk: lists, not tuples
    return read_back


def _earlier_receipt(model: str, identity: dict[str, Any], params: dict[str, Any]) -> dict[str, Any] | None:
    """The receipt of an earlier registration of the same candidate, or of an interrupted one with the same settings."""
    on_disk = read_object(paths.RECEIPT)
    candidates: list[dict[str, Any] | None] = []
    if on_disk.get("params") == json.loads(canonical_json(params)) or _is_judged(model, on_disk):
        candidates.append(on_disk)
    for entry in reversed(read_ledger(model)):
        if entry.kind == "judged" and entry.weights_digest == identity["weights"]:
            candidates.append(version_receipt(model, entry.version))
    return next((r for r in candidates if r and all(r.get(key) == identity[key] for key in IDENTITY)), None)


def _is_judged(model: str, receipt: dict[str, Any]) -> bool:
    key = content_digest(receipt)
    return any(entry.kind == "judged" and entry.receipt == key for entry in read_ledger(model))


def _circumstances(config: PipelineConfig) -> dict[str, Any]:
    training = _read(paths.TRAINING_REPORT)
    snapshot = snapshot_now()
    return {
        "created": now(),
        "commit": snapshot.commit,
        "snapshot": snapshot.tree,
        "left_out": list(snapshot.left_out),
        "ledger_head": head_of(config.register_.model_name),
        "dvc_lock": file_digest(paths.DVC_LOCK),
        "raw": dvc_outputs.output_hash(paths.RAW),
        "manifest": [asdict(batch) for batch in read_manifest()],
        "decisions": [asdict(decision) for decision in read_decisions()],
        "environment": _environment(),
        "hardware": hardware(),
        "threads": training.get("threads"),
        "effective_micro_batch_rows": training.get("effective_micro_batch_rows"),
        "seeds": {"finetune": config.finetune.seed, "evaluate": config.evaluate.seed, "gate": config.gate.seed},
        "training": training,
        "files": _model_files(),
        "templates": template_digests(read_object(paths.MODEL / TEMPLATES.name)),
        "metrics": _read(paths.METRICS),
        "remote": dvc_pipeline.remote_name(),
        "plugins": {plugin.name: plugin.digest for plugin in loaded_plugins()},
    }


def _model_files() -> dict[str, str]:
    """Relative path → sha256 of each file that is logged with the model."""
    files = {path.relative_to(paths.MODEL).as_posix(): path for path in paths.MODEL.rglob("*") if path.is_file()}
    return digests({name: path for name, path in files.items() if name not in NOT_LOGGED})


def _environment() -> dict[str, Any]:
    """Python and the version of every installed package."""
    lock = file_digest(paths.CONSTRAINTS) if paths.CONSTRAINTS.exists() else None
    return {"python": platform.python_version(), "constraints": lock, "packages": installed_packages()}


def _read(path: Path) -> Any:
    try:
        return read_json(path)
    except FileNotFoundError as error:
        raise DataError("not found", where=str(path), fix="Make it: dvc repro") from error
    except ValueError as error:
        raise DataError(
            f"damaged ({damage_reason(error)})", where=str(path), fix="Make it again: remove it, then dvc repro"
        ) from error
