"""One training, from its settings to a saved model and a report. Several processes may share it."""

from __future__ import annotations

import gc
import logging
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tasks.base.convert import base_folder
from tasks.base.load import device_name, load_tokenizer
from tasks.dataset.rendered import TEMPLATES
from tasks.errors import TrainingError
from tasks.finetune.config.search_settings import SearchSettings
from tasks.finetune.failures import train_with_oom_retries
from tasks.finetune.loop.progress_callback import write_curves
from tasks.finetune.loop.thread_log import AdjustThreads, training_name
from tasks.finetune.loop.train import train
from tasks.finetune.model.save import gather_full_model, save_model, sharding_strategy
from tasks.finetune.process_group import barrier, is_rank_zero, world_size
from tasks.finetune.search.trial import Trial, begin_trial
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.work import PreparedTraining, Work
from tasks.runtime.files import folder_digest, read_json, write_json

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """A training, and the folder of its model."""

    work: Work
    folder: Path
    chat_template: str
    search: SearchSettings | None = None
    trial: int | None = None
    """Number of the trial within `search`; None outside a search."""

    @property
    def result_path(self) -> Path:
        """Written last: the report of the training."""
        return self.work.checkpoints / "training.json"


def run_job(job: Job) -> None:
    """Trains, saves the model, and writes the report next to the checkpoints.

    A trial's model is saved only if the trial is the best so far.
    """
    work = job.work
    gc.collect()  # the previous model: adapters form a reference cycle, which is not freed at once
    work.checkpoints.mkdir(parents=True, exist_ok=True)
    threads = AdjustThreads(work, training_name(work, job.trial))
    trial = None
    if job.search is not None and job.trial is not None:
        trial = begin_trial(job.search, type(work.settings), work.checkpoints.parent, job.trial)
    settings, (trainer, prepared) = _train(work, trial, threads)
    if trial is not None:
        trial.conclude(trainer)
    model = gather_full_model(trainer, work)
    if is_rank_zero():
        facts = _facts(trainer, model, prepared, settings, work, threads.first)
        if trial is None or trial.is_best:
            _save(job, trainer, model)
        if trial is not None:
            trial.write(facts)
        write_json(job.result_path, {"facts": facts, "model": _model_digest(job)})
    barrier()


def read_facts(job: Job) -> dict[str, Any] | None:
    """The report of a finished job; None while it is unfinished."""
    if not job.result_path.is_file():
        return None
    facts: dict[str, Any] = read_json(job.result_path)["facts"]
    return facts


def read_verified_facts(job: Job) -> dict[str, Any] | None:
    """As `read_facts`, for a job of an earlier run; also None where its saved model has changed."""
    try:
        facts = read_facts(job)
        if facts is None or read_json(job.result_path)["model"] == _model_digest(job):
            return facts
    except (ValueError, KeyError, TypeError):
        pass
    logger.warning(f"finetune: the model in {job.folder} is damaged; it is trained again")
    job.result_path.unlink()
    return None


def _model_digest(job: Job) -> str | None:
    """Digest of the job's saved model; None without one."""
    return folder_digest(job.folder) if job.folder.is_dir() else None


def _train(
    work: Work, trial: Trial | None, threads: AdjustThreads
) -> tuple[TrainingSettings, tuple[Any, PreparedTraining]]:
    if world_size() == 1:
        return train_with_oom_retries(
            work.settings, work.checkpoints, lambda settings: train(replace(work, settings=settings), trial, threads)
        )
    try:
        return work.settings, train(work, trial, threads)
    except torch.OutOfMemoryError as error:  # the other processes did not fail, and would wait for this one
        fix = "Set finetune.micro_batch_rows lower and gradient_accumulation_steps higher: the same global batch"
        raise TrainingError("out of GPU memory", where="finetune", fix=fix) from error


def _save(job: Job, trainer: Any, model: Any) -> None:
    form = job.work.settings.spec.form
    tokenizer = load_tokenizer(base_folder(job.work.record), job.chat_template, generates=form != "labels")
    if form == "labels":  # so that users of the tokenizer truncate texts as in training
        tokenizer.model_max_length = min(tokenizer.model_max_length, read_json(TEMPLATES)["max_length_tokens"])
    save_model(model, tokenizer, job.folder, job.work)
    shutil.copyfile(TEMPLATES, job.folder / TEMPLATES.name)  # the prompt templates are stored with the model
    write_curves(job.folder / "curves.jsonl", trainer.state.log_history)


def _facts(
    trainer: Any, model: Any, prepared: PreparedTraining, settings: TrainingSettings, work: Work, threads: int
) -> dict[str, Any]:
    """The training report for the receipt: reproducible values only."""
    best = trainer.state.best_model_checkpoint
    return {
        "objective": settings.objective,
        "device": device_name(),
        "precision": work.precision,
        "threads": threads,
        "processes": world_size(),
        **({"strategy": sharding_strategy(trainer)} if world_size() > 1 else {}),
        "effective_micro_batch_rows": settings.micro_batch_rows,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "seed": settings.seed,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 6),
        "best_step": int(best.split("-")[-1]) if best else trainer.state.global_step,
        **prepared.facts,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
