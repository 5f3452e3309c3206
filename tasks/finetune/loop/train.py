"""Runs one training, from its last checkpoint if it was interrupted."""

from __future__ import annotations

import contextlib
import importlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from transformers import PrinterCallback, set_seed

from tasks.base.convert import base_folder
from tasks.base.load import device_name
from tasks.base.precision import DTYPES, Precision
from tasks.errors import BaseModelError, TrainingError, one_line
from tasks.finetune.loop.checkpoints import SaveEvery, SealCheckpoint, StopEarly, last_checkpoint, require_best
from tasks.finetune.loop.progress_callback import CountingCollator, ProgressCallback
from tasks.finetune.loop.signals import StopOnSignal, handling_signals
from tasks.finetune.loop.thread_log import AdjustThreads
from tasks.finetune.model.save import sharding_strategy
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
from tasks.runtime.progress import Progress, track

logger = logging.getLogger(__name__)


def prepare(work: Work) -> PreparedTraining:
    """Prepares the training of `work`, by the module of its objective.

    Raises:
        DataError: no rows for this objective.
        TrainingError: a setting does not fit the model.
    """
    module: Any = importlib.import_module(work.settings.spec.module)
    prepared: PreparedTraining = module.prepare(work)
    return prepared


def train(work: Work, trial: Trial | None = None, threads: AdjustThreads | None = None) -> tuple[Any, PreparedTraining]:
    """The trainer with its trained model, and the prepared training.

    Args:
        trial: compares the validation losses with other trials, and may stop the training.
        threads: sets the threads of each step.

    Raises:
        DataError: no rows for it, or no validation rows for a trial.
        BaseModelError: the loss is not finite because the base's weights are not.
        TrainingError: the loss is not finite or explodes; or a setting does not fit the model.
        Interrupted: a signal ended it; a checkpoint is saved.
    """
    settings = work.settings
    set_seed(settings.seed)
    with rank_zero_first(device_name()):  # so that files on disk are written once
        prepared = prepare(work)
    tokens_per_step = prepared.tokens_per_epoch / prepared.steps_per_epoch
    tokens, marks = round(prepared.total_steps * tokens_per_step), {"trial": trial.number} if trial else {}
    if work.before is not None:
        marks["before"] = work.before
    with track("finetune", total=tokens, unit="tokens", marks=marks, is_visible=is_rank_zero()) as progress:
        stop = StopOnSignal(progress)
        callbacks: list[Any] = [SealCheckpoint(), stop]
        if settings.early_stopping_patience:
            callbacks += [StopEarly(settings.early_stopping_patience), SaveEvery(settings.checkpoint_every_steps)]
        callbacks += [callback for callback in (trial, threads) if callback is not None]
        with _import_errors_as_settings():
            trainer = prepared.make_trainer(callbacks)
        trainer.remove_callback(PrinterCallback)
        _verify_best_before_loading(trainer)
        if trial is not None:
            trial.require_validation(trainer)
        counter = trainer.data_collator = CountingCollator(trainer.data_collator)
        reporter = ProgressCallback(
            progress,
            tokens_per_step,
            lambda: prepared.row_ids(trainer),
            lambda step: _last_checkpoint(work, step),
            counter,
            lambda: _base_error(work),
        )
        trainer.add_callback(reporter)
        last = broadcast_from_rank_zero(_last_checkpoint(work))
        if last is not None:
            logger.info(f"finetune: resumes from step {last.name.split('-')[1]}")
        if not is_rank_zero():
            set_seed(settings.seed + process_rank())  # or all processes would have the same dropout masks
        if is_sharded():
            sharding_strategy(trainer)  # fails before any work if the model is not sharded
        else:
            _require_optimizer(trainer)
        with handling_signals(stop.request_stop), _import_errors_as_settings(), _nan_errors_as_base(work):
            trainer.train(resume_from_checkpoint=str(last) if last else None)
        stop.require_uninterrupted(trainer.state)
        is_counted = counter.tokens > 0  # 0 where other processes load the data
        if is_rank_zero() and is_counted and prepared.epoch_flops and (speed := reporter.tokens_per_second):
            flops = prepared.epoch_flops(trainer.model, 1 - counter.repeated_share) / prepared.tokens_per_epoch * speed
            _report_utilisation(progress, trainer.state.global_step, speed, flops, work.precision)
    return trainer, prepared


@contextlib.contextmanager
def _import_errors_as_settings() -> Iterator[None]:
    """Reports a missing library that a field under `trainer` requires."""
    try:
        yield
    except ImportError as error:
        raise _setting_error("the trainer", error) from error


@contextlib.contextmanager
def _nan_errors_as_base(work: Work) -> Iterator[None]:
    """Reports the base where a computation, such as sampling, fails because of NaN in its weights."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        if (base_error := _base_error(work)) is not None:
            raise base_error from error
        raise


def _require_optimizer(trainer: Any) -> None:
    """Creates the optimiser, which validates its settings."""
    try:
        trainer.create_optimizer()
    except (ValueError, ImportError) as error:
        raise _setting_error("the optimiser", error) from error


def _setting_error(what: str, error: Exception) -> TrainingError:
    return TrainingError(f"{what}: {one_line(error)}", where="params.yaml, finetune.trainer", fix="Fix it")


def _verify_best_before_loading(trainer: Any) -> None:
    """Makes the trainer verify the best checkpoint before it loads the weights."""
    load = trainer._load_best_model

    def load_verified() -> None:
        if is_rank_zero():
            require_best(trainer.state.best_model_checkpoint)
        load()

    trainer._load_best_model = load_verified


def _last_checkpoint(work: Work, step: int | None = None) -> Path | None:
    return last_checkpoint(work.checkpoints, step) if is_rank_zero() else None


def _report_utilisation(progress: Progress, step: int, speed: float, flops: float, precision: Precision) -> None:
    """Logs the model FLOPs utilisation, and sends it to the mirrored metrics."""
    share = flops / matmul_flops(DTYPES[precision], device_name())
    progress.event(step=step, model_flops_per_second=flops, model_flops_utilisation=share)
    text = f"{speed:,.0f} tokens/s, {flops / 1e9:,.0f} GFLOP/s: {share:.0%} of a {precision} matrix product here"
    logger.info(f"finetune: {text}")


def _base_error(work: Work) -> BaseModelError | None:
    """The error where NaN comes from the base's weights: then the base is at fault, not the rows."""
    tensor = first_not_finite(base_folder(work.record))
    if tensor is None:
        return None
    what = f"the base's weights hold NaN or infinity ({tensor}), so it cannot be trained"
    return BaseModelError(what, where=work.record.id, fix="Set base.model to an intact copy of the model")


def first_not_finite(folder: Path) -> str | None:
    """The first tensor in a model folder that holds NaN or infinity; None where all are finite."""
    import torch
    from safetensors import safe_open

    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118  it is not a dictionary
                tensor = file.get_tensor(name)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor.float()).all()):
                    return str(name)
    return None
