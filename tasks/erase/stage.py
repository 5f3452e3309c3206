"""Erases rows from all of Strop's data: raw batches, quarantine, dataset, rendered rows and predictions, in the working tree,
in DVC's cache and in its remotes. The erasure is recorded for audits.

    erase(["3f2a…"], why="asked to by the person")

It cannot remove a row from weights that were trained on it (`strop history` lists them), from its source, or from a backup.
After a crash the plan is on the disk; the next `erase()` or `resume()` completes it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks import paths
from tasks.erase.objects import (
    StoredObject,
    datasets_with_rows,
    fetch_texts,
    has_row_id,
    objects_with_text,
    remotes_of,
)
from tasks.erase.plan import Plan, make_plan, save_plan, saved_plan
from tasks.erase.preferences import remove_preferences
from tasks.erase.rewrite import has_text, rewrite
from tasks.erase.run_reports import remove_reports
from tasks.erase.traces import remove_traces
from tasks.errors import VersioningError, one_line
from tasks.feedback.erase import erase_responses
from tasks.runtime.files import file_digest, md5_of, remove_interrupted, replacing
from tasks.state.decisions import Kind, read_decisions, record_decisions
from tasks.state.erasures import Erasure, read_erasures, record_erasure
from tasks.state.manifest import read_manifest, write_manifest
from tasks.vcs.dvc_pipeline import add_raw
from tasks.vcs.dvc_repo import with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

COMMAND = "strop rows forget --erase"
PINS: dict[Kind, str] = {"pin_train": "train", "pin_valid": "valid", "pin_test": "test"}


@dataclass(frozen=True)
class ErasureResult:
    plan: Plan
    files: int
    """Number of files with these rows, in cache and remotes."""
    remotes: list[str]
    reports: int = 0
    """Reports of runs that were removed from MLflow."""
    preferences: int = 0
    """People's preferences for the judge that were removed."""


def erase(row_ids: Collection[str], why: str) -> ErasureResult | None:
    """Forgets and erases the rows; None if all of them were erased already.

    Raises:
        DataError: a raw batch is not on the disk.
        VersioningError: a remote cannot be reached, or refuses. Run again to complete the erasure.
    """
    resume()
    plan = make_plan(row_ids, why)
    if plan is None:
        return None
    save_plan(plan)
    return _execute(plan)


def resume() -> ErasureResult | None:
    """Completes an interrupted erasure; None if there is none."""
    plan = saved_plan()
    return _execute(plan) if plan else None


def _execute(plan: Plan) -> ErasureResult:
    for folder in (paths.RAW, paths.JUDGES, paths.QUARANTINE, paths.CURATED):
        remove_interrupted(folder)
    _decide(plan)
    fetch_texts()
    objects = with_repo(lambda repo: objects_with_text(repo, plan), COMMAND)
    plan = replace(plan, held=tuple((item.what, item.md5) for item in objects))
    save_plan(plan)  # the name of an image is unknown once its listing is removed
    reports = remove_reports(plan, with_repo(lambda repo: datasets_with_rows(repo, plan), COMMAND), COMMAND)
    preferences = remove_preferences(plan)
    erase_responses(paths.SPOOL, plan.responses)
    remove_traces(plan.responses, COMMAND)
    _rewrite_raw(plan)
    add_raw()
    remotes = with_repo(lambda repo: _replace_objects(repo, objects, plan), COMMAND)
    _clear_outputs(plan)
    _clear_caches(plan)
    paths.ERASING.unlink()
    return ErasureResult(plan, len(_recorded_erasures(plan)), remotes, reports, preferences)


def _decide(plan: Plan) -> None:
    """Records decisions: the rows are forgotten, and the rows that followed them keep their split, as the erased text is gone."""
    existing = {(decision.what, decision.which) for decision in read_decisions()}
    record_decisions("forget", [row_id for row_id in plan.ids if ("forget", row_id) not in existing], plan.why)
    for kind, kept_split in PINS.items():
        pinned = [row_id for row_id, split in plan.pins if split == kept_split and (kind, row_id) not in existing]
        record_decisions(kind, pinned, "it followed a row that was erased")


def _rewrite_raw(plan: Plan) -> None:
    """Empties the records in data/raw and updates the manifest; a batch that was rewritten already stays."""
    batches = read_manifest()
    for index, batch in enumerate(batches):
        if batch.batch not in plan.batches:
            continue
        if has_text(batch.path, plan):
            with replacing(batch.path) as temporary:
                rewrite(batch.path, temporary, plan)
        batches[index] = replace(batch, sha256=file_digest(batch.path))
    write_manifest(batches)
    for image in plan.images:
        for path in paths.RAW.glob(f"*/images/{image}.*"):
            path.unlink()


def _replace_objects(repo: Repo, objects: list[StoredObject], plan: Plan) -> list[str]:
    """Records each object, then removes it: from the remotes first, so that a crash loses no object."""
    odb = repo.cache.local
    recorded = {item.old for item in _recorded_erasures(plan)}
    for item in objects:
        if item.md5 not in recorded:
            record_erasure(_erasure_of(item, odb, plan))
    names = []
    for name, remote in remotes_of(repo):
        try:
            _replace_in_remote(remote, odb, plan)
        except Exception as error:  # S3, SSH and the others each have an exception tree of their own
            reason = one_line(error) or type(error).__name__
            fix = f"Fix the remote or its credentials, then complete the erasure: {COMMAND}"
            raise VersioningError(f"the rows are still in a DVC remote ({reason})", where=name, fix=fix) from error
        names.append(name)
    for item in objects:
        item.path.unlink(missing_ok=True)
    return names


def _erasure_of(item: StoredObject, odb: Any, plan: Plan) -> Erasure:
    """Writes the replacement of an object into the cache."""
    new = new_sha256 = ""
    with tempfile.TemporaryDirectory(dir=odb.path, prefix=".erasing-") as folder:
        target = Path(folder) / "new"
        if has_text(item.path, plan) and rewrite(item.path, target, plan):
            new, new_sha256 = md5_of(target), file_digest(target)
            cached = Path(odb.oid_to_path(new))
            cached.parent.mkdir(parents=True, exist_ok=True)
            target.chmod(0o444)
            os.replace(target, cached)
    old_sha256 = file_digest(item.path) if item.path.exists() else ""  # it may be in a remote only
    return Erasure(
        item.what, item.md5, old_sha256, new, new_sha256, plan.ids, plan.digests, plan.who, plan.when, plan.why
    )


def _recorded_erasures(plan: Plan) -> list[Erasure]:
    return [erasure for erasure in read_erasures() if (erasure.ids, erasure.when) == (plan.ids, plan.when)]


def _replace_in_remote(remote: Any, odb: Any, plan: Plan) -> None:
    if remote.fs.protocol == "local" and not Path(remote.path).is_dir():
        raise FileNotFoundError(
            f"{remote.path} does not exist: mount it, or remove it from .dvc/config"
        )  # otherwise the erasure would seem complete
    for erasure in _recorded_erasures(plan):
        if not remote.exists(erasure.old):
            continue
        if erasure.new:
            target = remote.oid_to_path(erasure.new)
            remote.fs.makedirs(remote.fs.parent(target), exist_ok=True)
            remote.fs.put_file(odb.oid_to_path(erasure.new), target)
        remote.delete(erasure.old)


def _clear_outputs(plan: Plan) -> None:
    """Removes the stages' outputs with these rows from the working tree; the next run makes them again."""
    for folder in (paths.RENDERED, paths.PREDICTIONS, paths.EXPLANATIONS):
        shutil.rmtree(folder, ignore_errors=True)
    for report in (paths.SUMMARY, paths.REPORT):  # they have answers to test rows
        report.unlink(missing_ok=True)
    for path in (*paths.QUARANTINE.rglob("*.parquet"), *paths.CURATED.glob("*.parquet")):
        if has_text(path, plan):
            with replacing(path) as temporary:
                rewrite(path, temporary, plan)


def _clear_caches(plan: Plan) -> None:
    """Removes cache entries with one of the rows or batches, and the folder of the last run."""
    for cache in (paths.VALIDATE_CACHE, paths.CURATE_CACHE):
        for path in list(cache.rglob("*.parquet")):
            if has_row_id(path, [*plan.ids, *plan.digests]):
                shutil.rmtree(path.parent, ignore_errors=True)
    folders = (
        paths.WORK,
        paths.PREDICTION_CACHE,
        paths.SERVED,  # the log of a server may have prompts
        paths.CACHE / "build",  # answers of generators may be about them
        *paths.CACHE.glob("rendering-*"),  # an interrupted rendering
        paths.SOFT_TARGETS,  # a teacher's most likely tokens nearly are the answers
        paths.CHECKPOINTS,
        *paths.BASES.glob("labels-*"),  # made again when needed
    )
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (paths.GREAT_EXPECTATIONS, paths.DATA_DOCS):
        for path in [*folder.rglob("*")]:
            if any(batch in path.as_posix() for batch in plan.batches) and path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
