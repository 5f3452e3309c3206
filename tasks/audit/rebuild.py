"""Makes a version anew in a clone of its tag, with nothing from any cache, and compares dataset and weights."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import chdir
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.audit.file_checks import told_of_erasures
from tasks.audit.subject import Link, Subject
from tasks.base.weights_digest import weights_digest
from tasks.errors import AuditError, DataError
from tasks.model_store.versions import weights_folder
from tasks.vcs import dvc_outputs, git

STAGES = ("validate", "curate", "render", "finetune")


def rebuild_weights(subject: Subject) -> list[Link]:
    """Clones the version, fetches its raw rows, runs every stage up to the weights, and compares with the receipt.

    Raises:
        AuditError: a stage failed in the clone, or rows of the version were erased.
    """
    if erased := told_of_erasures(dvc_outputs.stored_files(subject.commit, paths.RAW)):
        told = erased.removeprefix("; ")
        raise AuditError(f"cannot be made anew: {told}", where=f"{subject.model} v{subject.version.version}")
    with tempfile.TemporaryDirectory(prefix="strop-rebuild-") as folder:
        clone = Path(folder) / "clone"
        git.clone_at(subject.commit, clone)
        shutil.rmtree(clone / paths.RAW, ignore_errors=True)
        dvc_outputs.fetch_from(subject.commit, paths.RAW, clone / paths.RAW)
        _bring_base(subject.receipt["base"], clone)
        _bring_weights(subject, clone)
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


def _bring_base(base: dict[str, Any], clone: Path) -> None:
    """A base that params.yaml names by a relative path lies beside the clone as it lies beside the project."""
    place = Path(base["id"])
    if base["kind"] in ("folder", "gguf") and not place.is_absolute() and not (clone / place).exists():
        (clone / place).parent.mkdir(parents=True, exist_ok=True)
        (clone / place).symlink_to(place.resolve())


def _bring_weights(subject: Subject, clone: Path) -> None:
    """The weights that the trainings began with: a champion's that was trained on, a teacher's, a reward model's."""
    start, entries = subject.receipt.get("start") or {}, [node.entry for node in subject.chain]
    digests = [*(start.get("versions") or {}).values()]
    digests += [start["champion"]["weights_digest"]] if start.get("champion") else []
    for digest in digests:
        version = next(entry.version for entry in reversed(entries) if entry.weights_digest == digest)
        kept = weights_folder(subject.model, version, digest)
        shutil.copytree(kept, clone / kept, dirs_exist_ok=True)


def _threads_of(receipt: dict[str, Any]) -> dict[str, str]:
    """The environment in which the trainings of a version compute with the threads that its receipt records."""
    found = {"OMP_NUM_THREADS": str(receipt["threads"])} if receipt.get("threads") else {}
    if changed := (receipt.get("training") or {}).get("threads_by_step"):
        found["STROP_THREADS"] = json.dumps(changed)  # tasks/finetune/loop/thread_log.py
    return found


def _run(stage: str, clone: Path, threads: dict[str, str]) -> None:
    """One stage, by the code of the version: its own folder is first on the path of a process that stands in it."""
    print(f"rebuild: {stage}", flush=True)
    environment = dict(os.environ)
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", "")])
    environment["DVC_NO_ANALYTICS"] = "1"
    environment |= threads
    command = [sys.executable, "-m", "dvc", "repro", "--quiet", "--single-item", "--no-run-cache", stage]
    result = subprocess.run(command, cwd=clone, env=environment, check=False)
    if result.returncode:
        raise AuditError(f"stage `{stage}` failed in the clone of the version; its reason stands above")


def _compare(name: str, found: str, recorded: str) -> Link:
    if found == recorded:
        return Link(name, True, f"{found[:12]}, as in the receipt")
    return Link(name, False, f"{found[:12]}, but the receipt says {recorded[:12]}")
