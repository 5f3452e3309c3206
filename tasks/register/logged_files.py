"""The files of a logged model: what was recorded of them, and whether a model that was logged earlier may be used again."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks import git
from tasks.logged import FILES_TAG, LOGGED, changed_files, digests, files_digest, unlike_trained
from tasks.register import logged_model
from tasks.tracking.registry import Registry
from tasks.versions import commit_of


def is_as_logged(registry: Registry, source: str, weights: str, kept: Path) -> bool:
    """Whether a model that was logged earlier still is what was logged then: by the record of a version, else by data/model."""
    with TemporaryDirectory(prefix="strop-register-") as scratch:
        files = registry.model_files(source, Path(scratch))
        if logged_model.digest_of([path for name, path in files.items() if name.endswith(".safetensors")]) != weights:
            return False
        for version in registry.versions():
            commit = commit_of(registry.model, version.version) if version.source == source else None
            if commit and (record := _record_at(commit)) and record["source"] == source:
                return not changed_files(record["files"], digests(files))
        trained = {path.relative_to(kept).as_posix(): path for path in kept.rglob("*") if path.is_file()}
        return not unlike_trained(trained, files)


def _record_at(commit: str) -> dict[str, Any] | None:
    """The files of the registry's model as a version's commit records them; None in one of before they were."""
    content = git.read_at(commit, LOGGED)
    record: dict[str, Any] | None = json.loads(content) if content else None
    return record


def files_tag(commit: str) -> dict[str, str]:
    """The tag by which the registry names the record in a version's commit."""
    record = _record_at(commit)
    return {FILES_TAG: files_digest(record)} if record else {}
