"""The parts of a version: its commit and tag in git, its receipt, and its weights on this disk.

commit = commit_of("strop-model", 3)             # tag strop-model@v3, or the ref of a refused candidate
folder = weights_folder("strop-model", 3, digest)  # .strop/models/<digest>, fetched if necessary
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.weights_digest import weights_digest
from tasks.errors import DataError, VersioningError
from tasks.runtime.files import files_below, link_or_copy, md5_of
from tasks.vcs import dvc_outputs, git


def tag_name(model: str, version: int) -> str:
    """The tag of a version that passed the gate, or was promoted in spite of a refusal."""
    return f"{model}@v{version}"


def refused_ref(model: str, version: int) -> str:
    """The ref of a refused version. Retention may remove it."""
    return f"refs/strop/refused/{model}/v{version}"


def commit_of(model: str, version: int) -> str | None:
    """The commit of a version; None where it does not exist or was removed."""
    return git.resolve(f"refs/tags/{tag_name(model, version)}") or git.resolve(refused_ref(model, version))


def receipt_at(commit: str) -> dict[str, Any] | None:
    """The receipt in a version commit; None without one."""
    content = git.read_at(commit, paths.RECEIPT)
    if content is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise DataError(f"not a receipt ({error})", where=f"{commit[:12]}:{paths.RECEIPT}") from error
    return receipt


def version_receipt(model: str, version: int) -> dict[str, Any] | None:
    """The receipt of a version; None where its commit does not exist, was removed, or has no receipt."""
    commit = commit_of(model, version)
    return receipt_at(commit) if commit else None


def initial_weights(receipt: dict[str, Any]) -> list[str]:
    """Digests of the weights that its trainings used: of teachers and reward models, then of the champion they started from."""
    start = receipt.get("start") or {}
    champion = start.get("champion")
    return [*(start.get("versions") or {}).values(), *([champion["weights_digest"]] if champion else [])]


def keep_weights(folder: Path) -> str:
    """Stores a trained model in .strop/models/<digest> by hard links; returns the digest of its weights.

    A model with equal weights and other files (another chat template) replaces the stored one.
    """
    digest = weights_digest(folder)
    target = paths.MODELS / digest
    if _is_intact(target, digest, _other_files(folder)):
        return digest
    shutil.rmtree(target, ignore_errors=True)
    temporary = paths.MODELS / f".{digest}.{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    for name, file in files_below(folder).items():
        link_or_copy(file, temporary / name)
    temporary.replace(target)
    return digest


def weights_folder(model: str, version: int, digest: str) -> Path:
    """The folder of a version's model: stored earlier, copied from data/model, or fetched by its tag.

    Every file is compared with the version commit: configuration, tokenizer and templates affect the output, too.

    Raises:
        VersioningError: it cannot be obtained, or its files have changed.
    """
    folder = paths.MODELS / digest
    commit = commit_of(model, version)
    files = _files_of(commit) if commit else None
    if _is_intact(folder, digest, files):
        return folder
    if _is_intact(paths.MODEL, digest, files):
        keep_weights(paths.MODEL)
        return folder
    name = f"{model} v{version}"
    if commit is None:
        fix = "Set a DVC remote that has them: dvc remote add --default NAME URL; then git fetch --tags"
        raise VersioningError(f"the weights of {name} are not on this disk, and its tag is not in git", fix=fix)
    shutil.rmtree(folder, ignore_errors=True)
    dvc_outputs.fetch_from(commit, paths.MODEL, folder)
    if not _is_intact(folder, digest, files):
        shutil.rmtree(folder)
        raise VersioningError(
            f"files of the model of {name} in DVC's cache are damaged", fix=f"See which: strop audit {version}"
        )
    return folder


def _is_intact(folder: Path, digest: str, files: dict[str, str] | None) -> bool:
    """Whether a folder has the weights of the digest, and other files with these md5 (None: not compared)."""
    try:
        return (files is None or _other_files(folder) == files) and weights_digest(folder) == digest
    except (DataError, OSError):
        return False


def _files_of(commit: str) -> dict[str, str] | None:
    """Path → md5 of the files of a version's model, without weights; None where neither cache nor remote has the list."""
    try:
        stored = dvc_outputs.stored_files(commit, paths.MODEL, listing_only=True)
    except VersioningError:
        return None
    return {file.relpath: file.md5 for file in stored if not file.relpath.endswith(".safetensors")}


def _other_files(folder: Path) -> dict[str, str]:
    return {name: md5_of(path) for name, path in files_below(folder).items() if path.suffix != ".safetensors"}
