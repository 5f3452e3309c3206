"""One training, from rendered rows to a trained model: from its last checkpoint, if it was interrupted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PrinterCallback, set_seed

from tasks.base.load import DTYPES, Precision, device_name
from tasks.base.resolve import BaseRecord
from tasks.finetune.arguments import steps_per_epoch, total_steps, training_arguments
from tasks.finetune.checkpoints import MarkComplete, StopEarly, last_checkpoint
from tasks.finetune.interruption import StopOnSignal
from tasks.finetune.model import build_model
from tasks.finetune.packed import PackedRows
from tasks.finetune.settings import FinetuneSettings
from tasks.finetune.telling import Tell
from tasks.finetune.trainer import AnswerTrainer
from tasks.finetune.utilisation import epoch_flops, matmul_flops
from tasks.progress import Progress, say, track
from tasks.rendered import Rendered


def train_model(
    settings: FinetuneSettings,
    record: BaseRecord,
    train: Rendered,
    valid: Rendered,
    precision: Precision,
    checkpoints: Path,
) -> AnswerTrainer:
    """The trainer, its model trained.

    Raises:
        TrainingError: the loss is no number, or explodes; or a setting does not fit the model.
        Interrupted: a signal ended it; a checkpoint is kept.
    """
    set_seed(settings.seed)
    model = build_model(record, settings, precision)
    steps = total_steps(settings, len(train))
    tokens_per_step = len(train.input_ids) / steps_per_epoch(settings, len(train))
    learns_all = settings.loss_on == "all"
    with track("finetune", total=round(steps * tokens_per_step), unit="tokens") as progress:
        stop = StopOnSignal(progress)
        callbacks: list[Any] = [MarkComplete(), stop]
        if settings.early_stopping_patience:
            callbacks.append(StopEarly(settings.early_stopping_patience))
        trainer = AnswerTrainer(
            model=model,
            args=training_arguments(settings, len(train), len(valid), precision, checkpoints),
            train_dataset=PackedRows(train, learns_all),
            eval_dataset=PackedRows(valid, learns_all),
            label_smoothing=settings.label_smoothing,
            neftune_alpha=settings.neftune_alpha,
            is_packed=settings.method != "prompt",
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        tell = Tell(progress, tokens_per_step, lambda: _rows_of(train, trainer), lambda: last_checkpoint(checkpoints))
        trainer.add_callback(tell)
        last = last_checkpoint(checkpoints)
        if last is not None:
            say(f"finetune: goes on from step {last.name.split('-')[1]}")
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        stop.require_uninterrupted(trainer.state)
        if speed := tell.tokens_per_second:
            flops = epoch_flops(trainer.model, train, learns_all) / len(train.input_ids) * speed
            _tell_utilisation(progress, trainer.state.global_step, speed, flops, precision)
    return trainer


def _rows_of(train: Rendered, trainer: AnswerTrainer) -> list[str]:
    """Ids of the rows of the global batch at hand."""
    packs = [pack for rows in trainer.rows for pack in rows.tolist()]
    return [row_id for pack in packs for row_id in train.row_ids(pack)]


def _tell_utilisation(progress: Progress, step: int, speed: float, flops: float, precision: Precision) -> None:
    """Prints, and hands on to the mirror, how much of the machine the training used."""
    share = flops / matmul_flops(DTYPES[precision], device_name())
    progress.event(step=step, model_flops_per_second=flops, model_flops_utilisation=share)
    told = f"{speed:,.0f} tokens/s, {flops / 1e9:,.0f} GFLOP/s: {share:.0%} of a {precision} matrix product here"
    say(f"finetune: {told}")
