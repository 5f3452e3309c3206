"""Objective `distill`: answers with a teacher's soft targets per token, which are computed once, before the training."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from tasks import paths
from tasks.base.convert import base_folder
from tasks.base.load import is_adapter, labels_of, load_tokenizer, load_trained
from tasks.base.pin import BaseRecord
from tasks.base.weights_digest import weights_digest
from tasks.dataset.rendered import read_rendered
from tasks.errors import BaseModelError, DataError, TrainingError
from tasks.finetune.objectives import sft
from tasks.finetune.objectives.soft_targets import (
    RowsWithSoftTargets,
    SoftTargetArrays,
    compute_soft_targets,
    load_soft_targets,
)
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.step.packed_attention import PackedRows
from tasks.finetune.work import PreparedTraining, Work
from tasks.runtime.progress import track
from tasks.state.training_start import version_folder

logger = logging.getLogger(__name__)

TEACHER_FIX = "Name one in finetune.distill.teacher: champion, a version's number, or a folder"


def prepare(work: Work) -> PreparedTraining:
    """Packed rows of answers with soft targets.

    Raises:
        DataError: no rows, no such teacher, or the stored targets belong to other rows.
        TrainingError: the teacher has another vocabulary.
    """
    settings = work.settings
    folder = _teacher_of(settings)
    plain = sft.prepare(work)
    rows = PackedRows(read_rendered("train"), settings.loss_on == "all")
    soft, count = _soft_targets(folder, rows, work)
    if not count:
        what = "its soft targets belong to none of the training rows"
        raise DataError(what, where=str(folder), fix="Name the teacher itself, or compute its targets again")
    if count < plain.facts["train_examples"]:
        missing = plain.facts["train_examples"] - count
        logger.warning(f"finetune: {missing} examples have no soft targets; they are trained on their own answers only")

    def make_trainer(callbacks: list[Any]) -> Any:
        trainer = plain.make_trainer(callbacks)
        trainer.train_dataset, trainer.distill = RowsWithSoftTargets(rows, soft), settings.distill
        return trainer

    return replace(plain, make_trainer=make_trainer, facts={**plain.facts, "taught_examples": count})


def require_teacher(settings: TrainingSettings, record: BaseRecord) -> None:
    """Checks, before any work, that the teacher fits this base.

    Raises:
        DataError: there is no such teacher, or it is neither a model nor soft targets.
        TrainingError: its vocabulary differs or cannot be read, or it is a classifier.
    """
    require_teacher_in(_teacher_of(settings), record)


def require_teacher_in(folder: Path, record: BaseRecord) -> None:
    """As `require_teacher`, for the folder of the teacher."""
    if _is_model(folder):
        _require_same_vocabulary(folder, record)
    elif not any(folder.glob("*.parquet")):
        raise DataError("holds neither a model nor stored soft targets", where=str(folder), fix=TEACHER_FIX)


def _teacher_of(settings: TrainingSettings) -> Path:
    assert settings.distill.teacher is not None  # tasks/finetune/config/preflight.py
    return version_folder(settings.distill.teacher)


def _is_model(folder: Path) -> bool:
    return is_adapter(folder) or (folder / "config.json").is_file()


def _soft_targets(folder: Path, rows: PackedRows, work: Work) -> tuple[SoftTargetArrays, int]:
    top = work.settings.distill.top_tokens
    scratch = work.checkpoints / "soft-targets"
    if not _is_model(folder):
        return load_soft_targets(rows, folder, top, scratch)
    stored = paths.SOFT_TARGETS / f"{weights_digest(folder)[:32]}-{work.record.digest[:16]}-{work.precision}-{top}"
    vocabulary = _require_same_vocabulary(folder, work.record)
    with track("teacher", total=len(rows), unit="packed rows") as progress:
        compute_soft_targets(
            lambda: load_trained(folder, work.record, work.precision), rows, top, vocabulary, stored, progress
        )
    return load_soft_targets(rows, stored, top, scratch)


def _require_same_vocabulary(folder: Path, record: BaseRecord) -> int:
    """The size of the vocabulary that teacher and student share."""
    if labels_of(folder) is not None:
        raise TrainingError("the teacher is a classifier, not a causal LM", where=str(folder), fix=TEACHER_FIX)
    student = load_tokenizer(base_folder(record)).get_vocab()
    try:
        teacher = load_tokenizer(folder).get_vocab()
    except BaseModelError as error:
        raise TrainingError(f"the teacher cannot be read: {error.what}", where=str(folder), fix=TEACHER_FIX) from error
    if teacher != student:
        what = "the teacher has another vocabulary than the base, so its soft targets do not apply to the student"
        fix = "Choose a teacher with the same tokenizer; or generate answers with it: strop data build"
        raise TrainingError(what, where=str(folder), fix=fix)
    return len(student)
