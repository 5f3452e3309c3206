"""The files of a model as the registry holds them: their digests when it was registered, and which of them are files of
data/model under another place.

    record = {"source": "models:/m-4f2a…", "files": digests(registry.model_files(source, scratch))}

The record is part of the version's commit (data/reports/logged.json), and its digest a tag of the version in the registry.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from tasks import paths
from tasks.runtime.files import content_digest, file_digest

LOGGED = paths.REPORTS / "logged.json"
FILES_TAG = "strop.files"
RESTORED_TAG = "strop.restored"
"""On a version whose model was logged once more, into the place of files that were gone: MLflow writes other bytes each time."""

WRITTEN_BY_MLFLOW = {
    *("MLmodel", "conda.yaml", "python_env.yaml", "requirements.txt", "registered_model_meta"),
    *("LICENSE.txt", "README.md", "model_card.md", "model_card_data.yaml"),
}
"""Files that MLflow and peft put beside a model's own. MLmodel names the class that loads it; the rest says what to install."""

LEFT_OUT = {"curves.jsonl"}
"""Files of data/model that are not logged with the model: they are points of its run."""

PLACES = {
    "adapter_config.json": {"base_model_name_or_path"},
    "tokenizer_config.json": {"is_local", "local_files_only", "name_or_path"},
    "config.json": {"_name_or_path"},
}
"""Keys that say where a file was loaded from: other in the registry's copy, which was loaded elsewhere."""
UNORDERED = {"target_modules", "modules_to_save"}
"""Sets, whose order differs from run to run."""


def digests(files: Mapping[str, Path]) -> dict[str, str]:
    """Place in the model → sha256 of the bytes there."""
    return {name: file_digest(path) for name, path in sorted(files.items())}


def record_of(source: str, files: Mapping[str, Path]) -> dict[str, Any]:
    """What registration writes down."""
    return {"source": source, "files": digests(files)}


def files_digest(record: dict[str, Any]) -> str:
    """Names a record's files in one tag."""
    return content_digest(record["files"])


def changed_files(recorded: Mapping[str, str], now: Mapping[str, str]) -> dict[str, str]:
    """File → what became of it."""
    differences = {name: "has changed" for name in recorded if name in now and now[name] != recorded[name]}
    differences |= {name: "is gone" for name in recorded if name not in now}
    differences |= {name: "was not there when it was registered" for name in now if name not in recorded}
    return dict(sorted(differences.items()))


def unlike_trained(trained: Mapping[str, Path], logged: Mapping[str, Path]) -> dict[str, str]:
    """File → how the registry's copy differs from data/model, as far as it can be known without a record.

    Args:
        trained: the files of data/model as DVC keeps them.
        logged: those in the registry.
    """
    twins: dict[str, str] = {}
    differences: dict[str, str] = {}
    for name in sorted(logged):
        own = _twin(name, trained)
        if own is not None:
            twins[own] = name
            if not _says_the_same(own, trained[own], logged[name]):
                differences[name] = f"differs from {paths.MODEL / own}"
        elif PurePosixPath(name).name not in WRITTEN_BY_MLFLOW:
            differences[name] = "is no file of the trained model, and none that MLflow writes"
    for own in sorted(trained):
        if own not in twins and own not in LEFT_OUT:
            differences[own] = "is not there"
    return differences


def _twin(name: str, trained: Mapping[str, Path]) -> str | None:
    """The file of data/model that lies in the registry at `name`: there below `peft/`, `model/` or `components/…/`."""
    parts = PurePosixPath(name).parts
    places = ("/".join(parts[start:]) for start in range(len(parts)))
    return next((place for place in places if place in trained), None)


def _says_the_same(name: str, trained: Path, logged: Path) -> bool:
    if trained.samefile(logged) or file_digest(trained) == file_digest(logged):
        return True
    if not name.endswith(".json"):
        return False
    try:
        ours, theirs = (_meaning(name, json.loads(path.read_bytes())) for path in (trained, logged))
    except ValueError:
        return False
    if name == "tokenizer_config.json" and isinstance(theirs, dict) and "pad_token" not in ours:
        theirs.pop("pad_token", None)  # set where a tokenizer has none, before the model is logged
    return bool(ours == theirs)


def _meaning(name: str, value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    kept = {key: each for key, each in value.items() if key not in PLACES.get(name, ())}
    return {key: sorted(each) if key in UNORDERED and isinstance(each, list) else each for key, each in kept.items()}
