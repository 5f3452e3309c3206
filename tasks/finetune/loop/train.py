"""One training, to a trained model: from its last checkpoint, if it was interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, set_seed

from tasks.base.convert import base_folder
from tasks.base.finite import first_not_finite
from tasks.base.load import device_name
from tasks.base.precision import DTYPES, Precision
from tasks.errors import BaseModelError, TrainingError, one_line
from tasks.finetune.loop.checkpoints import MarkComplete, SaveOften, StopEarly, last_checkpoint, require_best
from tasks.finetune.loop.progress_callback import CountTokens, Tell
from tasks.finetune.loop.signals import StopOnSignal
from tasks.finetune.loop.thread_log import FollowLoad
from tasks.finetune.model.gather_model import sharding_strategy
from tasks.finetune.objectives.table import prepare
from tasks.finetune.process_group import (
    broadcast_from_rank_zero,
    is_rank_zero,
    is_sharded,
    process_rank,
    rank_zero_first,
)
from tasks.finetune.search.trial import Trial
from tasks.finetune.step.mfu import matmul_flops
from tasks.finetune.work import PreparedTraining, Work
from tasks.runtime.progress import Progress, say, track


def train(work: Work, trial: Trial | None = None, threads: FollowLoad | None = None) -> tuple[Any, PreparedTraining]:
    """The trainer, its model trained, and what it was trained on.

    Args:
        trial: judges the training while it runs, and may stop it.
        threads: sets those of each step.

    Raises:
        DataError: there are no rows for it, or none on the validation side to judge a trial by.
        BaseModelError: the loss is no number, and the base's weights hold such.
        TrainingError: the loss is no number, or explodes; or a setting does not fit the model.
        Interrupted: a signal ended it; a checkpoint is kept.
    """
    settings = work.settings
    set_seed(settings.seed)
    with rank_zero_first(device_name()):  # what it leaves on disk is made once
        prepared = prepare(work)
    tokens_per_step = prepared.tokens_per_epoch / prepared.steps_per_epoch
    tokens, marks = round(prepared.total_steps * tokens_per_step), {"trial": trial.number} if trial else {}
    if work.before is not None:
        marks["before"] = work.before
    with track("finetune", total=tokens, unit="tokens", marks=marks, is_told=is_rank_zero()) as progress:
        stop = StopOnSignal(progress)
        callbacks: list[Any] = [MarkComplete(), stop]
        if settings.early_stopping_patience:
            callbacks += [StopEarly(settings.early_stopping_patience), SaveOften(settings.checkpoint_every_steps)]
        callbacks += [each for each in (trial, threads) if each is not None]
        with _missing_libraries_told():
            trainer = prepared.make_trainer(callbacks)
        trainer.remove_callback(PrinterCallback)
        _verify_best(trainer)
        if trial is not None:
            trial.require_validation(trainer)
        counted = trainer.data_collator = CountTokens(trainer.data_collator)
        tell = Tell(
            progress,
            tokens_per_step,
            lambda: prepared.row_ids(trainer),
            lambda step: _last_checkpoint(work, step),
            counted,
            lambda: _base_fault(work),
        )
        trainer.add_callback(tell)
        last = broadcast_from_rank_zero(_last_checkpoint(work))
        if last is not None:
            say(f"finetune: goes on from step {last.name.split('-')[1]}")
        if not is_rank_zero():
            set_seed(settings.seed + process_rank())  # or dropout would leave out the same of other rows
        if is_sharded():
            sharding_strategy(trainer)  # before any work: is it?
        else:
            _require_optimizer(trainer)
        with stop.listening(), _missing_libraries_told(), _base_blamed(work):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        stop.require_uninterrupted(trainer.state)
        is_counted = counted.tokens > 0  # it is not where other processes load the data
        if is_rank_zero() and is_counted and prepared.epoch_flops and (speed := tell.tokens_per_second):
            flops = prepared.epoch_flops(trainer.model, 1 - counted.repeated_share) / prepared.tokens_per_epoch * speed
            _tell_utilisation(progress, trainer.state.global_step, speed, flops, work.precision)
    return trainer, prepared


@contextlib.contextmanager
def _missing_libraries_told() -> Iterator[None]:
    """Of a library that a field under `trainer` asks for."""
    try:
        yield
    except ImportError as error:
        raise _refused("the trainer", error) from error


@contextlib.contextmanager
def _base_blamed(work: Work) -> Iterator[None]:
    """For a computation that fails on NaN which the base's weights hold, such as drawing an answer."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if (fault := _base_fault(work)) is not None:
            raise fault from error
        raise


def _require_optimizer(trainer: Any) -> None:
    """Makes the optimiser, which looks at its settings only then."""
    try:
        trainer.create_optimizer()
    except (ValueError, ImportError) as error:
        raise _refused("the optimiser", error) from error


def _refused(what: str, error: Exception) -> TrainingError:
    told = one_line(error)
    return TrainingError(f"{what}: {told}", where="params.yaml, finetune.trainer", fix="Mend it")


def _verify_best(trainer: Any) -> None:
    """Lets the trainer take the best weights only if they are those that were saved."""
    load = trainer._load_best_model

    def load_verified() -> None:
        if is_rank_zero():
            require_best(trainer.state.best_model_checkpoint)
        load()

    trainer._load_best_model = load_verified


def _last_checkpoint(work: Work, step: int | None = None) -> Path | None:
    return last_checkpoint(work.checkpoints, step) if is_rank_zero() else None


def _tell_utilisation(progress: Progress, step: int, speed: float, flops: float, precision: Precision) -> None:
    """Prints, and hands on to the mirror, how much of the machine the training used."""
    share = flops / matmul_flops(DTYPES[precision], device_name())
    progress.event(step=step, model_flops_per_second=flops, model_flops_utilisation=share)
    told = f"{speed:,.0f} tokens/s, {flops / 1e9:,.0f} GFLOP/s: {share:.0%} of a {precision} matrix product here"
    say(f"finetune: {told}")


def _base_fault(work: Work) -> BaseModelError | None:
    tensor = first_not_finite(base_folder(work.record))
    if tensor is None:
        return None
    what = f"the base's own weights hold NaN or infinity ({tensor}), so no row can be learnt by it"
    return BaseModelError(what, where=work.record.id, fix="Set base.model to a whole copy of the model")
