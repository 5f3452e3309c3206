"""The datasets that a stage reads and writes, with DVC's hashes, from the content of dvc.yaml and dvc.lock. Pure."""

from __future__ import annotations

from typing import Any

Versions = dict[str, str]
"""Path of a dataset → its DVC hash."""
FOLDER = "data/"
"""Dependencies outside of it are code and settings, which the git commit names."""


def known_inputs(described: dict[str, Any], lock: dict[str, Any], raw: Versions, stage: str) -> Versions:
    """The inputs of a stage that has not run yet, as far as earlier stages have written them.

    Args:
        described, lock: `stages` of dvc.yaml and dvc.lock.
        raw: outputs of no stage: data/raw.
    """
    written = raw | {path: md5 for name in lock for path, md5 in outputs(lock, name).items()}
    paths = [_path(dependency) for dependency in (described.get(stage) or {}).get("deps") or ()]
    return {path: written[path] for path in paths if path in written}


def inputs(lock: dict[str, Any], stage: str) -> Versions:
    """The inputs of a stage that has run."""
    return {path: md5 for path, md5 in _hashes(lock, stage, "deps").items() if path.startswith(FOLDER)}


def outputs(lock: dict[str, Any], stage: str) -> Versions:
    """The outputs of a stage that has run."""
    return _hashes(lock, stage, "outs")


def _hashes(lock: dict[str, Any], stage: str, kind: str) -> Versions:
    entries = (lock.get(stage) or {}).get(kind) or ()
    return {str(entry["path"]): str(entry["md5"]) for entry in entries if "md5" in entry}


def _path(dependency: Any) -> str:
    return str(dependency if isinstance(dependency, str) else next(iter(dependency)))
