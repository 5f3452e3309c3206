"""Objective `distill`: answers, with what a teacher thinks of every token of them. It is asked once, before the training."""

from __future__ import annotations

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
from tasks.finetune.objectives.soft_targets import SoftArrays, TaughtRows, ask_teacher, lay_out
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.step.packed_attention import PackedRows
from tasks.finetune.work import PreparedTraining, Work
from tasks.runtime.progress import say, track
from tasks.state.training_start import version_folder

ASK = "Name one in finetune.distill.teacher: champion, a version's number, or a folder"


def prepare(work: Work) -> PreparedTraining:
    """Packed rows of answers with soft targets.

    Raises:
        DataError: there are no rows, no such teacher, or stored targets are of other rows.
        TrainingError: the teacher has other tokens.
    """
    settings = work.settings
    folder = _teacher_of(settings)
    plain = sft.prepare(work)
    rows = PackedRows(read_rendered("train"), settings.loss_on == "all")
    soft, found = _soft_targets(folder, rows, work)
    if not found:
        what = "its soft targets are of none of today's training rows"
        raise DataError(what, where=str(folder), fix="Name the teacher itself, or store its targets anew")
    if found < plain.facts["train_examples"]:
        missing = plain.facts["train_examples"] - found
        say(
            f"finetune: the teacher was not asked about {missing} examples; they are trained by their own answers alone"
        )

    def make_trainer(callbacks: list[Any]) -> Any:
        trainer = plain.make_trainer(callbacks)
        trainer.train_dataset, trainer.distill = TaughtRows(rows, soft), settings.distill
        return trainer

    return replace(plain, make_trainer=make_trainer, facts={**plain.facts, "taught_examples": found})


def require_teacher(settings: TrainingSettings, record: BaseRecord) -> None:
    """Tells before any work which teacher cannot teach this base.

    Raises:
        DataError: there is no such teacher, or it is neither a model nor soft targets.
        TrainingError: it has other tokens, or none that can be read, or does not write.
    """
    folder = _teacher_of(settings)
    if _is_model(folder):
        _require_same_tokens(folder, record)
    elif not any(folder.glob("*.parquet")):
        raise DataError("holds neither a model nor stored soft targets", where=str(folder), fix=ASK)


def _teacher_of(settings: TrainingSettings) -> Path:
    assert settings.distill.teacher is not None  # tasks/finetune/config/preflight.py
    return version_folder(settings.distill.teacher)


def _is_model(folder: Path) -> bool:
    return is_adapter(folder) or (folder / "config.json").is_file()


def _soft_targets(folder: Path, rows: PackedRows, work: Work) -> tuple[SoftArrays, int]:
    top = work.settings.distill.top_tokens
    scratch = work.checkpoints / "soft-targets"
    if not _is_model(folder):
        return lay_out(rows, folder, top, scratch)
    stored = paths.SOFT_TARGETS / f"{weights_digest(folder)[:32]}-{work.record.digest[:16]}-{work.precision}-{top}"
    vocabulary = _require_same_tokens(folder, work.record)
    with track("teacher", total=len(rows), unit="packed rows") as progress:
        ask_teacher(lambda: load_trained(folder, work.record, work.precision), rows, top, vocabulary, stored, progress)
    return lay_out(rows, stored, top, scratch)


def _require_same_tokens(folder: Path, record: BaseRecord) -> int:
    """The size of the vocabulary that teacher and student share."""
    if labels_of(folder) is not None:
        raise TrainingError("the teacher tells labels apart, it does not write", where=str(folder), fix=ASK)
    student = load_tokenizer(base_folder(record)).get_vocab()
    try:
        theirs = load_tokenizer(folder).get_vocab()
    except BaseModelError as error:
        raise TrainingError(f"the teacher cannot be read: {error.what}", where=str(folder), fix=ASK) from error
    if theirs != student:
        what = "the teacher has other tokens than the base, so its soft targets mean nothing to the student"
        fix = "Take a teacher of the same family; or let it write answers: strop data build"
        raise TrainingError(what, where=str(folder), fix=fix)
    return len(student)
