"""What a version number stands for: its commit and tag in git, its receipt, and its weights on this disk.

commit = commit_of("strop-model", 3)             # tag strop-model@v3, or the ref of a refused candidate
folder = weights_folder("strop-model", 3, digest)  # .strop/models/<digest>, fetched if need be
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
from tasks.runtime.files import link_or_copy, md5_of
from tasks.vcs import dvc_outputs, git


def tag_name(model: str, version: int) -> str:
    """The tag of a version that the gate let through, or that was promoted in spite of it."""
    return f"{model}@v{version}"


def refused_ref(model: str, version: int) -> str:
    """The ref of a version that the gate refused. Retention may remove it."""
    return f"refs/strop/refused/{model}/v{version}"


def commit_of(model: str, version: int) -> str | None:
    """The commit that a version was registered with; None where it has none (any more)."""
    return git.resolve(f"refs/tags/{tag_name(model, version)}") or git.resolve(refused_ref(model, version))


def receipt_at(commit: str) -> dict[str, Any] | None:
    """The receipt that a version's commit holds; None where it holds none."""
    content = git.read_at(commit, paths.RECEIPT)
    if content is None:
        return None
    try:
        receipt: dict[str, Any] = json.loads(content)
    except ValueError as error:
        raise DataError(f"not a receipt ({error})", where=f"{commit[:12]}:{paths.RECEIPT}") from error
    return receipt


def keep_weights(folder: Path) -> str:
    """Keeps a trained model in .strop/models/<digest> by hard links, and returns the digest of its weights.

    One with the same weights and other files (another chat template) takes the place of what was kept.
    """
    digest = weights_digest(folder)
    kept = paths.MODELS / digest
    if _is_whole(kept, digest, _other_files(folder)):
        return digest
    shutil.rmtree(kept, ignore_errors=True)
    beside = paths.MODELS / f".{digest}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        place = beside / file.relative_to(folder)
        link_or_copy(file, place)
    beside.replace(kept)
    return digest


def weights_folder(model: str, version: int, digest: str) -> Path:
    """The folder that holds a version's model: kept from before, from data/model, or fetched by its tag.

    Every file is compared with what the version's commit names: configuration, tokenizer and templates decide what it says, too.

    Raises:
        VersioningError: it is nowhere, or is no longer what it was.
    """
    kept = paths.MODELS / digest
    commit = commit_of(model, version)
    files = _files_of(commit) if commit else None
    if _is_whole(kept, digest, files):
        return kept
    if _is_whole(paths.MODEL, digest, files):
        keep_weights(paths.MODEL)
        return kept
    name, fix = (
        f"{model} v{version}",
        "Set a DVC remote that has them: dvc remote add --default NAME URL; then git fetch --tags",
    )
    if commit is None:
        raise VersioningError(f"the weights of {name} are not on this disk, and its tag is not in git", fix=fix)
    shutil.rmtree(kept, ignore_errors=True)
    dvc_outputs.fetch_from(commit, paths.MODEL, kept)
    if not _is_whole(kept, digest, files):
        shutil.rmtree(kept)
        raise VersioningError(
            f"files of the model of {name} in DVC's cache are damaged", fix=f"See which: strop audit {version}"
        )
    return kept


def _is_whole(folder: Path, digest: str, files: dict[str, str] | None) -> bool:
    """Whether a folder's weights are the ones that the digest names, and its other files have these md5, where they are known."""
    try:
        return (files is None or _other_files(folder) == files) and weights_digest(folder) == digest
    except (DataError, OSError):
        return False


def _files_of(commit: str) -> dict[str, str] | None:
    """The md5 of every file of a version's model but its weights; None where neither cache nor remote has the list."""
    try:
        stored = dvc_outputs.stored_files(commit, paths.MODEL, listing_only=True)
    except VersioningError:
        return None
    return {file.relpath: file.md5 for file in stored if not file.relpath.endswith(".safetensors")}


def _other_files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): md5_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".safetensors"
    }
