"""The files of a logged model: their digests at registration, and the corresponding files of data/model.

    record = {"source": "models:/m-4f2a…", "files": digests(registry.model_files(source, scratch))}

The record is part of the version commit (data/reports/logged.json); its digest is a tag of the version in the registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tasks import paths
from tasks.runtime.files import content_digest, file_digest

LOGGED = paths.REPORTS / "logged.json"
REPORT_KEY = "report"
"""In the record: the sha256 of the run's report, or null. Versions of earlier releases do not have it."""
REPORT_HEAD = 4000
"""Characters at the start of report.html that contain the digest of its verdict."""

WRITTEN_BY_MLFLOW = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"),
    *("LICENSE.txt", "README.md", "model_card.md", "model_card_data.yaml"),
}
"""Files that MLflow and peft add to a model. MLmodel names the loader; the others list what to install."""

NOT_LOGGED = {"curves.jsonl"}
"""Files of data/model that are not logged with the model: their points are metrics of its run."""

PATH_KEYS = {
    "adapter_config.json": {"base_model_name_or_path"},
    "tokenizer_config.json": {"is_local", "local_files_only", "name_or_path"},
    "config.json": {"_name_or_path"},
}
"""Keys that hold the path a file was loaded from: different in the registry's copy."""
SET_KEYS = {"target_modules", "modules_to_save"}
"""Keys of sets, whose order differs from run to run."""


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Relative path in the model → sha256 of the file."""
    return {name: file_digest(path) for name, path in sorted(files.items())}


def record_of(source: str, files: Mapping[str, Path], report: Path | None) -> dict[str, Any]:
    """The record that registration stores.

    Args:
        report: the run's report.html in the registry; None where no report was logged.
    """
    return {"source": source, "files": digests(files), REPORT_KEY: file_digest(report) if report else None}


def is_report_of(path: Path, verdict: Mapping[str, Any]) -> bool:
    """Whether the report is about this verdict: it has no other name than that of an earlier run's."""
    try:
        with path.open(encoding="utf-8") as file:
            return f'name="strop-verdict" content="{content_digest(verdict)}"' in file.read(REPORT_HEAD)
    except (OSError, ValueError):
        return False


def files_digest(record: dict[str, Any]) -> str:
    """One digest of all files of a record, for a tag."""
    return content_digest(record["files"])


def changed_files(recorded: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """File → how it changed."""
    differences = {name: "has changed" for name in recorded if name in now and now[name] != recorded[name]}
    differences |= {name: "is gone" for name in recorded if name not in now}
    differences |= {name: "was not there when it was registered" for name in now if name not in recorded}
    return dict(sorted(differences.items()))


def differences_from_trained(trained: Mapping[str, Path], logged: Mapping[str, Path]) -> dict[str, str]:
    """File → how the registry's copy differs from data/model, as far as this is visible without a record.

    Args:
        trained: the files of data/model from DVC.
        logged: the files in the registry.
    """
    matched: dict[str, str] = {}
    differences: dict[str, str] = {}
    for name in sorted(logged):
        own = _counterpart(name, trained)
        if own is not None:
            matched[own] = name
            if not _is_equivalent(own, trained[own], logged[name]):
                differences[name] = f"differs from {paths.MODEL / own}"
        elif PurePosixPath(name).name not in WRITTEN_BY_MLFLOW:
            differences[name] = "is no file of the trained model, and none that MLflow writes"
    for own in sorted(trained):
        if own not in matched and own not in NOT_LOGGED:
            differences[own] = "is not there"
    return differences


def _counterpart(name: str, trained: Mapping[str, Path]) -> str | None:
    """The file of data/model for the registry's file `name`, which is below `peft/`, `model/` or `components/…/` there."""
    parts = PurePosixPath(name).parts
    candidates = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((candidate for candidate in candidates if candidate in trained), None)


def _is_equivalent(name: str, trained: Path, logged: Path) -> bool:
    if trained.samefile(logged) or file_digest(trained) == file_digest(logged):
        return True
    if not name.endswith(".json"):
        return False
    try:
        ours, theirs = (_comparable(name, json.loads(path.read_bytes())) for path in (trained, logged))
    except ValueError:
        return False
    if name == "tokenizer_config.json" and isinstance(theirs, dict) and "pad_token" not in ours:
        theirs.pop("pad_token", None)  # added to a tokenizer without one, before the model is logged
    return bool(ours == theirs)


def _comparable(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    items = {key: item for key, item in value.items() if key not in PATH_KEYS.get(name, ())}
    return {key: sorted(item) if key in SET_KEYS and isinstance(item, list) else item for key, item in items.items()}
