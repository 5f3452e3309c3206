"""Objectives `sft` and `pretrain`: cross-entropy of the trained tokens, over packed rows."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np

from tasks.dataset.rendered import Rendered, read_rendered
from tasks.errors import DataError
from tasks.finetune.config.trainer_arguments import steps_per_epoch, total_steps, training_arguments
from tasks.finetune.model.build import build_model
from tasks.finetune.model.context_length import longest_example, require_fits_context, sliding_window_of, text_config_of
from tasks.finetune.process_group import gather_from_ranks
from tasks.finetune.step.mfu import epoch_flops
from tasks.finetune.step.packed_attention import PackedRows
from tasks.finetune.step.samplers import SingleExamples
from tasks.finetune.step.shared_prefix import may_share
from tasks.finetune.step.trainer import AnswerTrainer
from tasks.finetune.work import PreparedTraining, Work

logger = logging.getLogger(__name__)


def prepare(work: Work) -> PreparedTraining:
    """Packed rows of answers (`sft`) or of raw text (`pretrain`).

    Raises:
        DataError: no rows, or early stopping without validation rows.
        TrainingError: an example exceeds the context length.
    """
    settings = work.settings
    form = settings.spec.form
    train, valid = read_rendered("train", form), read_rendered("valid", form)
    require_rows(work, len(train), len(valid))
    longest = longest_example(train, valid)
    require_fits_context(work, longest)
    learns_all = settings.loss_on == "all" or form == "texts"
    by_length = settings.batches == "by_length"
    dataset = SingleExamples if by_length else PackedRows
    rows, valid_rows = dataset(train, learns_all), dataset(valid, learns_all)
    window = sliding_window_of(text_config_of(work))
    is_packed = settings.method != "prompt" and not by_length and (window is None or longest <= window)

    def make_trainer(callbacks: list[Any]) -> AnswerTrainer:
        model = build_model(work, is_packed=is_packed)
        if is_packed and not model.supports_packed_rows:
            logger.warning("finetune: this model does not support packed rows: it is trained unpacked, with padding")
        return AnswerTrainer(
            model=model,
            args=training_arguments(work, len(rows), len(valid_rows)),
            train_dataset=rows,
            eval_dataset=valid_rows,
            label_smoothing=settings.label_smoothing,
            neftune_alpha=settings.neftune_alpha,
            is_packed=model.supports_packed_rows,
            by_length=by_length,
            shares_prompt=may_share(settings, learns_all),
            callbacks=callbacks,
        )

    return PreparedTraining(
        tokens_per_epoch=len(train.input_ids),
        steps_per_epoch=steps_per_epoch(settings, len(rows)),
        total_steps=total_steps(settings, len(rows)),
        make_trainer=make_trainer,
        row_ids=lambda trainer: rows_of(rows.rendered, trainer),
        epoch_flops=lambda model, computed: epoch_flops(
            model, np.diff(train.examples), _trained_tokens(train, learns_all), computed
        ),
        facts={
            "train_examples": len(train.packs),
            "train_packed_rows": len(train),
            "train_tokens": len(train.input_ids),
            "answer_tokens": int(train.loss_mask.sum()),
        },
    )


def _trained_tokens(train: Rendered, learns_all: bool) -> int:
    """Number of tokens with a loss; the first token of an example has none, as nothing predicts it."""
    return len(train.input_ids) - len(train.packs) if learns_all else int(train.loss_mask.sum())


def require_rows(work: Work, train_rows: int, valid_rows: int) -> None:
    """Raises DataError without training rows, or for early stopping without validation rows."""
    settings = work.settings
    if not train_rows:
        what = f"no row of the training split fits finetune.objective: {settings.objective}"
        raise DataError(what, where="finetune", fix="Add a source that has such rows, or choose another objective")
    if settings.early_stopping_patience and not valid_rows:
        raise DataError(
            "early stopping needs rows in the validation split", where="finetune", fix="Raise curate.valid_share"
        )


def rows_of(train: Rendered, trainer: AnswerTrainer) -> list[str]:
    """Ids of the rows of the current global batch."""
    packs = [pack for rows in trainer.rows for pack in rows.tolist()]
    packs = [pack for part in gather_from_ranks(packs) for pack in part]
    return [row_id for pack in packs for row_id in train.row_ids(pack)]
