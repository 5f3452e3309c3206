"""Rebuilds a version in a clone of its tag, without any cache, and compares dataset and weights."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.audit.file_checks import erasure_note
from tasks.audit.subject import Link, Subject, link
from tasks.base.weights_digest import weights_digest
from tasks.errors import AuditError, DataError
from tasks.model_store.versions import initial_weights, weights_folder
from tasks.vcs import dvc_outputs
from tasks.vcs.git_clone import clone_at

logger = logging.getLogger(__name__)

STAGES = ("validate", "curate", "render", "finetune")


def rebuild_weights(subject: Subject) -> list[Link]:
    """Clones the version, fetches its raw rows, runs every stage up to the training, and compares with the receipt.

    Raises:
        AuditError: a stage failed in the clone, or rows of the version were erased.
    """
    if erased := erasure_note(dvc_outputs.stored_files(subject.commit, paths.RAW)):
        note = erased.removeprefix("; ")
        raise AuditError(f"cannot be rebuilt: {note}", where=f"{subject.model} v{subject.version.version}")
    with tempfile.TemporaryDirectory(prefix="strop-rebuild-") as folder:
        clone = Path(folder) / "clone"
        clone_at(subject.commit, clone)
        shutil.rmtree(clone / paths.RAW, ignore_errors=True)
        dvc_outputs.fetch_from(subject.commit, paths.RAW, clone / paths.RAW)
        _link_base(subject.receipt["base"], clone)
        _copy_weights(subject, clone)
        threads = _threads_of(subject.receipt)
        for stage in STAGES:
            _run(stage, clone, threads)
        with chdir(clone):
            dataset = dvc_outputs.dataset_version()
            try:
                weights = weights_digest(paths.MODEL)
            except DataError as error:
                raise AuditError(f"the rebuilt model {error.what}", where=str(paths.MODEL)) from error
    return [
        _compare("rebuilt dataset", dataset or "none", subject.receipt["dataset"]),
        _compare("rebuilt weights", weights, subject.receipt["weights"]),
    ]


def _link_base(base: dict[str, Any], clone: Path) -> None:
    """Links a base with a relative path in params.yaml into the clone, so that the path is valid there."""
    path = Path(base["id"])
    if base["kind"] in ("folder", "gguf") and not path.is_absolute() and not (clone / path).exists():
        (clone / path).parent.mkdir(parents=True, exist_ok=True)
        (clone / path).symlink_to(path.resolve())


def _copy_weights(subject: Subject, clone: Path) -> None:
    entries = [node.entry for node in subject.chain]
    for digest in initial_weights(subject.receipt):
        version = next(entry.version for entry in reversed(entries) if entry.weights_digest == digest)
        folder = weights_folder(subject.model, version, digest)
        shutil.copytree(folder, clone / folder, dirs_exist_ok=True)


def _threads_of(receipt: dict[str, Any]) -> dict[str, str]:
    """The environment variables that set the numbers of threads recorded in the receipt."""
    variables = {"OMP_NUM_THREADS": str(receipt["threads"])} if receipt.get("threads") else {}
    if by_step := (receipt.get("training") or {}).get("threads_by_step"):
        variables["STROP_THREADS"] = json.dumps(by_step)  # tasks/finetune/loop/thread_log.py
    return variables


def _run(stage: str, clone: Path, threads: dict[str, str]) -> None:
    """Runs one stage with the version's own code: the working directory is first on the path of a process."""
    logger.info(f"rebuild: {stage}")
    search_path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = {**os.environ, "PATH": search_path, "DVC_NO_ANALYTICS": "1", **threads}
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", "--single-item", "--no-run-cache", stage]
    result = subprocess.run(command, cwd=clone, env=environment, check=False)
    if result.returncode:
        raise AuditError(f"stage `{stage}` failed in the clone of the version; its reason is above")


def _compare(name: str, digest: str, recorded: str) -> Link:
    problems = [f"{digest[:12]}, but the receipt has {recorded[:12]}"] if digest != recorded else []
    return link(name, problems, f"{digest[:12]}, as in the receipt")
