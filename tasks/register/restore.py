"""The files of an earlier version, in a folder laid out as a project: the sources of its run and model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.pin import base_of, verify_base
from tasks.base.weights_digest import weights_digest
from tasks.errors import BaseModelError, DataError, VersioningError
from tasks.model_store.versions import keep_weights
from tasks.register.known import VersionRecord
from tasks.runtime.files import link_or_copy, read_object, write_json
from tasks.vcs import dvc_outputs, git

DRIFT = "its drift from the champion of that time"


@dataclass
class RestoredVersion:
    root: Path
    model: Path | None = None
    """The trained model in .strop/models; None where it cannot be logged again."""
    missing: list[str] = field(default_factory=list)
    """The parts that could not be restored, with the reasons."""


def restore(version: VersionRecord, root: Path) -> RestoredVersion:
    """Fetches the outputs of a version commit from DVC's cache or remote into `root`, and lists the missing ones."""
    restored = RestoredVersion(root)
    if version.commit is None or version.receipt is None:
        what = "its parameters, metrics, curves, files and model: its commit is not in git"
        restored.missing.append(f"{what} (a refused candidate's may be removed by retention)")
        return restored
    commit, receipt = version.commit, version.receipt
    content = git.read_at(commit, paths.RECEIPT)
    assert content is not None
    (root / paths.RECEIPT).parent.mkdir(parents=True)
    (root / paths.RECEIPT).write_bytes(content)
    for path, recorded in ((paths.VERDICT, receipt["verdict"]), (paths.METRICS, receipt["metrics"])):
        if _fetch(commit, path, root):
            write_json(root / path, recorded)  # it is part of the receipt, too
    if why := _fetch(commit, paths.PLOTS, root):
        restored.missing.append(f"its plots ({why})")
    _restore_drift(receipt, restored)
    _restore_model(version, commit, receipt, restored)
    return restored


def _fetch(commit: str, path: Path, root: Path) -> str | None:
    """Fetches an output below `root`; returns the reason where that is impossible."""
    return _failure_of(lambda: dvc_outputs.fetch_from(commit, path, root / path))


def _failure_of(action: Callable[[], Any]) -> str | None:
    try:
        action()
    except (VersioningError, BaseModelError, DataError) as error:
        return error.what
    return None


def _restore_drift(receipt: dict[str, Any], restored: RestoredVersion) -> None:
    """Copies the drift report, which exists for the newest dataset only: no stage writes it."""
    is_of_this_dataset = read_object(paths.DRIFT).get("dataset") == receipt["dataset"]
    for path in (paths.DRIFT, paths.DRIFT_PLOT):
        if is_of_this_dataset and path.is_file():
            link_or_copy(path, restored.root / path)
    if receipt["round"].get("champion") and not is_of_this_dataset:
        restored.missing.append(f"{DRIFT}, if it was measured (only the newest dataset has it)")


def _restore_model(version: VersionRecord, commit: str, receipt: dict[str, Any], restored: RestoredVersion) -> None:
    folder = restored.root / paths.MODEL
    if version.retired:
        restored.missing.append(f"its model and curves: {version.retired}")
        return
    if why := _fetch(commit, paths.MODEL, restored.root):
        restored.missing.append(f"its model and curves ({why})")
        return
    if (digest := weights_digest(folder)) != version.weights:
        restored.missing.append(f"its model (in DVC it is {digest[:12]}, in the receipt {version.weights[:12]})")
        return
    if why := _failure_of(lambda: verify_base(base_of(receipt["base"]))):
        restored.missing.append(f"its model (its base: {why})")
        return
    model = paths.MODELS / keep_weights(folder)
    if not (folder / "curves.jsonl").is_file():
        restored.missing.append("its curves (data/model had none then)")
    restored.model = model
