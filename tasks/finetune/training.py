"""One training, to a trained model: from its last checkpoint, if it was interrupted."""

from __future__ import annotations

from typing import Any

from transformers import PrinterCallback, set_seed

from tasks.base.load import DTYPES, Precision, device_name
from tasks.finetune.checkpoints import MarkComplete, StopEarly, last_checkpoint
from tasks.finetune.interruption import StopOnSignal
from tasks.finetune.objectives import Prepared, Work, prepare
from tasks.finetune.telling import Tell
from tasks.finetune.utilisation import matmul_flops
from tasks.progress import Progress, say, track


def train(work: Work) -> tuple[Any, Prepared]:
    """The trainer, its model trained, and what it was trained on.

    Raises:
        DataError: there are no rows for it.
        TrainingError: the loss is no number, or explodes; or a setting does not fit the model.
        Interrupted: a signal ended it; a checkpoint is kept.
    """
    settings = work.settings
    set_seed(settings.seed)
    prepared = prepare(work)
    tokens_per_step = prepared.tokens_per_epoch / prepared.steps_per_epoch
    with track("finetune", total=round(prepared.total_steps * tokens_per_step), unit="tokens") as progress:
        stop = StopOnSignal(progress)
        callbacks: list[Any] = [MarkComplete(), stop]
        if settings.early_stopping_patience:
            callbacks.append(StopEarly(settings.early_stopping_patience))
        trainer = prepared.make_trainer(callbacks)
        trainer.remove_callback(PrinterCallback)
        tell = Tell(
            progress, tokens_per_step, lambda: prepared.row_ids(trainer), lambda: last_checkpoint(work.checkpoints)
        )
        trainer.add_callback(tell)
        last = last_checkpoint(work.checkpoints)
        if last is not None:
            say(f"finetune: goes on from step {last.name.split('-')[1]}")
        with stop.listening():
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        stop.require_uninterrupted(trainer.state)
        if (speed := tell.tokens_per_second) and prepared.epoch_flops:
            flops = prepared.epoch_flops(trainer.model) / prepared.tokens_per_epoch * speed
            _tell_utilisation(progress, trainer.state.global_step, speed, flops, work.precision)
    return trainer, prepared


def _tell_utilisation(progress: Progress, step: int, speed: float, flops: float, precision: Precision) -> None:
    """Prints, and hands on to the mirror, how much of the machine the training used."""
    share = flops / matmul_flops(DTYPES[precision], device_name())
    progress.event(step=step, model_flops_per_second=flops, model_flops_utilisation=share)
    told = f"{speed:,.0f} tokens/s, {flops / 1e9:,.0f} GFLOP/s: {share:.0%} of a {precision} matrix product here"
    say(f"finetune: {told}")
