"""A clone of a version's commit with what its stages read, and nothing that they wrote: no cache, no dvc.lock."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tasks import paths
from tasks.errors import AuditError
from tasks.model_store.versions import weights_folder
from tasks.reproduce.version import Version
from tasks.vcs import dvc_outputs
from tasks.vcs.dvc_repo import use_own_cache
from tasks.vcs.git_clone import clone_at

NAME = "clone"


def make_clone(version: Version, folder: Path) -> Path:
    """Clones the version below `folder`, which is empty, and returns the clone's folder."""
    clone = folder.joinpath(*levels_above(version.base.id), NAME)
    clone.parent.mkdir(parents=True, exist_ok=True)
    clone_at(version.commit, clone)
    use_own_cache(clone)
    _remove_outputs(version, clone)
    _remove(clone, paths.RAW)
    dvc_outputs.fetch_from(version.commit, paths.RAW, clone / paths.RAW)
    _link_base(version, clone)
    for digest, number in version.weights.items():
        source = weights_folder(version.model, number, digest)
        shutil.copytree(source, clone / paths.MODELS / digest, dirs_exist_ok=True)
    return clone


def levels_above(path: str) -> list[str]:
    """Folders around the clone, one for each `..` of a base's relative path: its link must not leave the folder."""
    parts = Path(os.path.normpath(path)).parts
    return ["around"] * parts.count("..")


def _remove_outputs(version: Version, clone: Path) -> None:
    """Removes outputs that are in git, and dvc.lock, with which DVC would restore outputs."""
    (clone / paths.DVC_LOCK).unlink(missing_ok=True)
    for stage in version.lock.values():
        for out in stage.get("outs") or ():
            _remove(clone, Path(out["path"]))


def _remove(clone: Path, path: Path) -> None:
    """Removes a file or folder of the clone, and never one elsewhere: a folder around it may be a link in git."""
    target = clone / path
    if clone.resolve() not in (target.parent.resolve(), *target.parent.resolve().parents):
        what = f"is outside of the clone, at {target.parent.resolve()}: a reproduction would change it"
        raise AuditError(what, where=path.as_posix(), fix="Nothing was changed. Its outputs must be inside the project")
    if target.is_dir() and not target.is_symlink():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)


def _link_base(version: Version, clone: Path) -> None:
    """Links a base with a relative path in params.yaml, so that the path is valid in the clone."""
    base = version.base
    path = Path(base.id)
    if base.kind in ("folder", "gguf") and not path.is_absolute() and not (clone / path).exists():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        Path(os.path.normpath(clone / path)).symlink_to(path.resolve())
