"""The files of a logged model: what was recorded of them, and which model that was logged earlier may be used again."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tasks.model_store.logged_files import (
    FILES_TAG,
    LOGGED,
    changed_files,
    differences_from_trained,
    digests,
    files_digest,
)
from tasks.model_store.versions import commit_of
from tasks.register import logged_model
from tasks.tracking.registry import Registry
from tasks.vcs import git


def model_to_use_again(registry: Registry, weights: str, kept: Path | None) -> str | None:
    """The address of a model that was logged earlier and is, file by file, the one in `kept`; None where there is none.

    One of equal weights whose other files say something else (another chat template) is an earlier version's, and stays.
    One that was changed since it was logged, or belongs to no version, is removed.

    Args:
        kept: None where it is nowhere: then the weights alone are compared.
    """
    versions = registry.versions()
    for source in registry.find_models(weights):
        owners = [version.version for version in versions if version.source == source]
        with TemporaryDirectory(prefix="strop-register-") as scratch:
            files = registry.model_files(source, Path(scratch))
            is_whole = _is_whole(files, weights, _record_of(registry.model, owners, source))
            is_ours = kept is None or not differences_from_trained(_files_below(kept), files)
        if is_whole and is_ours:
            return source
        if not is_whole or not owners:
            registry.delete_model(source)
    return None


def _is_whole(files: dict[str, Path], weights: str, record: dict[str, str] | None) -> bool:
    found = logged_model.digest_of([path for name, path in files.items() if name.endswith(".safetensors")])
    return found == weights and (record is None or not changed_files(record, digests(files)))


def _files_below(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _record_of(model: str, owners: list[int], source: str) -> dict[str, str] | None:
    """The digests of a logged model's files, as the commit of a version holds them; None in those of before they were recorded."""
    for number in owners:
        commit = commit_of(model, number)
        if commit and (record := _record_at(commit)) and record["source"] == source:
            return dict(record["files"])
    return None


def _record_at(commit: str) -> dict[str, Any] | None:
    """The files of the registry's model as a version's commit records them; None in one of before they were."""
    content = git.read_at(commit, LOGGED)
    record: dict[str, Any] | None = json.loads(content) if content else None
    return record


def files_tag(commit: str) -> dict[str, str]:
    """The tag by which the registry names the record in a version's commit."""
    record = _record_at(commit)
    return {FILES_TAG: files_digest(record)} if record else {}
