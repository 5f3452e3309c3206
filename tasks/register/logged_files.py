"""The files of a logged model: their record, and the reuse of a model that was logged earlier."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.base.weights_digest import digest_of_files
from tasks.model_store.logged_files import (
    LOGGED,
    changed_files,
    differences_from_trained,
    digests,
    files_digest,
)
from tasks.model_store.versions import commit_of
from tasks.runtime.files import files_below
from tasks.tracking.registry import Registry
from tasks.tracking.tags import FILES_TAG
from tasks.vcs import git


def reusable_model(registry: Registry, weights: str, folder: Path | None) -> str | None:
    """The address of an earlier logged model with the same files as `folder`; None where there is none.

    A model with equal weights and other files (another chat template) belongs to an earlier version, and stays. One that was
    changed since it was logged, or belongs to no version, is removed.

    Args:
        folder: the files of the model; None where they are lost: then only the weights are compared.
    """
    versions = registry.versions()
    for source in registry.find_models(weights):
        owners = [version.version for version in versions if version.source == source]
        with TemporaryDirectory(prefix="strop-register-") as scratch:
            files = registry.model_files(source, Path(scratch))
            is_intact = _is_intact(files, weights, _record_of(registry.model, owners, source))
            is_same = folder is None or not differences_from_trained(files_below(folder), files)
        if is_intact and is_same:
            return source
        if not is_intact or not owners:
            registry.delete_model(source)
    return None


def _is_intact(files: dict[str, Path], weights: str, record: dict[str, str] | None) -> bool:
    digest = digest_of_files([path for name, path in files.items() if name.endswith(".safetensors")])
    return digest == weights and (record is None or not changed_files(record, digests(files)))


def _record_of(model: str, owners: list[int], source: str) -> dict[str, str] | None:
    """File → digest of a logged model, from a version commit; None for versions from before this was recorded."""
    for number in owners:
        commit = commit_of(model, number)
        if commit and (record := _record_at(commit)) and record["source"] == source:
            return dict(record["files"])
    return None


def _record_at(commit: str) -> dict[str, Any] | None:
    """The record of the logged model in a version commit; None in commits from before it was recorded."""
    content = git.read_at(commit, LOGGED)
    record: dict[str, Any] | None = json.loads(content) if content else None
    return record


def files_tag(commit: str) -> dict[str, str]:
    """The registry tag with the digest of the record in a version commit."""
    record = _record_at(commit)
    return {FILES_TAG: files_digest(record)} if record else {}
