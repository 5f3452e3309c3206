"""Erases rows from every byte that Strop keeps: raw batches, quarantine, dataset, rendered rows, predictions, in the working
tree, in DVC's cache and in its remotes; and records it, so that an audit can answer.

    erase(["3f2a…"], why="asked to by the person")

What it cannot do: take a row out of weights that were trained on it (`strop history` names them), out of the source that it
came from, or out of a backup. A crash leaves a plan; the next `erase()` or `resume()` does the rest.
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
from tasks.erase.objects import Held, fetch_texts, held_objects, mentions, remotes_of
from tasks.erase.plan import Plan, make_plan, save_plan, saved_plan
from tasks.erase.rewrite import holds, rewrite
from tasks.errors import VersioningError, one_line
from tasks.runtime.files import file_digest, md5_of, replacing
from tasks.state.decisions import Kind, read_decisions, record_decisions
from tasks.state.erasures import Erasure, read_erasures, record_erasure
from tasks.state.manifest import read_manifest, write_manifest
from tasks.vcs.dvc_pipeline import add_raw
from tasks.vcs.dvc_repo import with_repo

if TYPE_CHECKING:
    from dvc.repo import Repo

DOING = "strop rows forget --erase"
PINS: dict[Kind, str] = {"pin_train": "train", "pin_valid": "valid", "pin_test": "test"}


@dataclass(frozen=True)
class Erased:
    plan: Plan
    files: int
    """That held the rows, in cache and remotes."""
    remotes: list[str]


def erase(row_ids: Collection[str], why: str) -> Erased | None:
    """Forgets the rows, and erases them; None where all of them were erased before.

    Raises:
        DataError: a raw batch is not on the disk.
        VersioningError: a remote cannot be reached, or refuses. Run again: the rest is done then.
    """
    resume()
    plan = make_plan(row_ids, why)
    if plan is None:
        return None
    save_plan(plan)
    return _carry_out(plan)


def resume() -> Erased | None:
    """Does the rest of an erasure that did not come to its end; None where there is none."""
    plan = saved_plan()
    return _carry_out(plan) if plan else None


def _carry_out(plan: Plan) -> Erased:
    _decide(plan)
    fetch_texts()
    held = with_repo(lambda repo: held_objects(repo, plan), DOING)
    plan = replace(plan, held=tuple((each.what, each.md5) for each in held))
    save_plan(plan)  # what an image is called is known no more when its listing is gone
    _rewrite_raw(plan)
    add_raw()
    remotes = with_repo(lambda repo: _replace_objects(repo, held, plan), DOING)
    _clear_outputs(plan)
    _clear_caches(plan)
    paths.ERASING.unlink()
    return Erased(plan, len(_mine(plan)), remotes)


def _decide(plan: Plan) -> None:
    """The rows are forgotten; those that followed them keep their side, which can no more be told from the erased text."""
    decided = {(each.what, each.which) for each in read_decisions()}
    record_decisions("forget", [row_id for row_id in plan.ids if ("forget", row_id) not in decided], plan.why)
    for kind, side in PINS.items():
        pinned = [row_id for row_id, split in plan.pins if split == side and (kind, row_id) not in decided]
        record_decisions(kind, pinned, "it followed a row that was erased")


def _rewrite_raw(plan: Plan) -> None:
    """Empties the records in data/raw, and says so in the manifest; a batch that is rewritten already stays."""
    batches = read_manifest()
    for place, batch in enumerate(batches):
        if batch.batch not in plan.batches:
            continue
        if holds(batch.path, plan):
            with replacing(batch.path) as temporary:
                rewrite(batch.path, temporary, plan)
        batches[place] = replace(batch, sha256=file_digest(batch.path))
    write_manifest(batches)
    for image in plan.images:
        for path in paths.RAW.glob(f"*/images/{image}.*"):
            path.unlink()


def _replace_objects(repo: Repo, held: list[Held], plan: Plan) -> list[str]:
    """Records each object, then removes it: from the remotes first, so that a crash forgets none of them."""
    odb = repo.cache.local
    recorded = {each.old for each in _mine(plan)}
    for each in held:
        if each.md5 not in recorded:
            record_erasure(_erasure_of(each, odb, plan))
    reached = []
    for name, remote in remotes_of(repo):
        try:
            _replace_in_remote(remote, odb, plan)
        except Exception as error:  # S3, SSH and the others each have an exception tree of their own
            told = one_line(error) or type(error).__name__
            fix = f"Mend the remote or its credentials, then do the rest: {DOING}"
            raise VersioningError(f"the rows still lie in a DVC remote ({told})", where=name, fix=fix) from error
        reached.append(name)
    for each in held:
        each.path.unlink(missing_ok=True)
    return reached


def _erasure_of(each: Held, odb: Any, plan: Plan) -> Erasure:
    """Puts what stands in the object's place into the cache."""
    new = new_sha256 = ""
    with tempfile.TemporaryDirectory(dir=odb.path, prefix=".erasing-") as folder:
        target = Path(folder) / "new"
        if holds(each.path, plan) and rewrite(each.path, target, plan):
            new, new_sha256 = md5_of(target), file_digest(target)
            place = Path(odb.oid_to_path(new))
            place.parent.mkdir(parents=True, exist_ok=True)
            target.chmod(0o444)
            os.replace(target, place)
    old_sha256 = file_digest(each.path) if each.path.exists() else ""  # it may lie in a remote alone
    return Erasure(
        each.what, each.md5, old_sha256, new, new_sha256, plan.ids, plan.digests, plan.who, plan.when, plan.why
    )


def _mine(plan: Plan) -> list[Erasure]:
    return [each for each in read_erasures() if (each.ids, each.when) == (plan.ids, plan.when)]


def _replace_in_remote(remote: Any, odb: Any, plan: Plan) -> None:
    if remote.fs.protocol == "local" and not Path(remote.path).is_dir():
        raise FileNotFoundError(
            f"{remote.path} is not there: mount it, or take it out of .dvc/config"
        )  # else all seems done
    for each in _mine(plan):
        if not remote.exists(each.old):
            continue
        if each.new:
            place = remote.oid_to_path(each.new)
            remote.fs.makedirs(remote.fs.parent(place), exist_ok=True)
            remote.fs.put_file(odb.oid_to_path(each.new), place)
        remote.delete(each.old)


def _clear_outputs(plan: Plan) -> None:
    """What the stages made with the rows goes from the working tree; the next run makes it without them."""
    shutil.rmtree(paths.RENDERED, ignore_errors=True)
    shutil.rmtree(paths.PREDICTIONS, ignore_errors=True)
    paths.SUMMARY.unlink(missing_ok=True)  # it shows answers to some test rows
    for path in (*paths.QUARANTINE.rglob("*.parquet"), *paths.CURATED.glob("*.parquet")):
        if holds(path, plan):
            with replacing(path) as temporary:
                rewrite(path, temporary, plan)


def _clear_caches(plan: Plan) -> None:
    """Our own caches: entries that name one of the rows, or one of their batches; and the folder of the last run, which has all."""
    shutil.rmtree(paths.WORK, ignore_errors=True)
    for cache in (paths.VALIDATE_CACHE, paths.CURATE_CACHE):
        for path in list(cache.rglob("*.parquet")):
            if mentions(path, [*plan.ids, *plan.digests]):
                shutil.rmtree(path.parent, ignore_errors=True)
    shutil.rmtree(paths.PREDICTION_CACHE, ignore_errors=True)
    shutil.rmtree(paths.CACHE / "build", ignore_errors=True)  # what generators answered may be about them
    for left in paths.CACHE.glob("rendering-*"):  # a rendering that was killed
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(paths.SOFT_TARGETS, ignore_errors=True)  # a teacher's likeliest tokens are nearly the answers
    shutil.rmtree(paths.CHECKPOINTS, ignore_errors=True)
    for folder in paths.BASES.glob("labels-*"):  # made again when they are asked for
        shutil.rmtree(folder, ignore_errors=True)
    for folder in (paths.GREAT_EXPECTATIONS, paths.DATA_DOCS):
        for path in [*folder.rglob("*")]:
            if any(batch in path.as_posix() for batch in plan.batches) and path.exists():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
