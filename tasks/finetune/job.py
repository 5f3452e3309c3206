"""One training as a whole: from its settings to a saved model and the facts of it. Several processes may do it together."""

from __future__ import annotations

import gc
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tasks.base.convert import base_folder
from tasks.base.load import device_name, load_tokenizer
from tasks.dataset.rendered import FORM_OF, TEMPLATES
from tasks.errors import TrainingError
from tasks.finetune.config.search_settings import SearchSettings
from tasks.finetune.failures import train_in_memory
from tasks.finetune.loop.progress_callback import write_curves
from tasks.finetune.loop.thread_log import FollowLoad, training_name
from tasks.finetune.loop.train import train
from tasks.finetune.model.gather_model import strategy_of, whole_model
from tasks.finetune.model.save import save_model
from tasks.finetune.process_group import is_first, process_count, wait_for_all
from tasks.finetune.search.trial import Trial, begin_trial
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.work import Prepared, Work
from tasks.runtime.files import folder_digest, read_json, write_json
from tasks.runtime.progress import print_line


@dataclass(frozen=True)
class Job:
    """What is trained, and where its model goes."""

    work: Work
    folder: Path
    chat_template: str
    search: SearchSettings | None = None
    trial: int | None = None
    """The number of the trial that it is, of `search`; None: it is none."""

    @property
    def done(self) -> Path:
        """Written last: the facts of the training."""
        return self.work.checkpoints / "training.json"


def do_job(job: Job) -> None:
    """Trains, saves the model, and writes the facts beside the checkpoints.

    The model of a trial that is not the best so far is not saved.
    """
    work = job.work
    gc.collect()  # the model of the training before: with adapters it stands in a ring, and would wait
    work.checkpoints.mkdir(parents=True, exist_ok=True)
    threads = FollowLoad(work, training_name(work, job.trial))
    trial = None
    if job.search is not None and job.trial is not None:
        trial = begin_trial(job.search, type(work.settings), work.checkpoints.parent, job.trial)
    used, (trainer, prepared) = _train(work, trial, threads)
    if trial is not None:
        trial.conclude(trainer)
    model = whole_model(trainer, work)
    if is_first():
        facts = _facts(trainer, model, prepared, used, work, threads.first)
        if trial is None or trial.is_best:
            _save(job, trainer, model)
        if trial is not None:
            trial.write(facts)
        write_json(job.done, {"facts": facts, "model": _model_digest(job)})
    wait_for_all()


def facts_of(job: Job) -> dict[str, Any] | None:
    """The facts of a job that is done; None for one that is not."""
    if not job.done.is_file():
        return None
    facts: dict[str, Any] = read_json(job.done)["facts"]
    return facts


def known_facts_of(job: Job) -> dict[str, Any] | None:
    """As `facts_of`, of a job that an earlier run did: None, too, where its model is no longer what it saved."""
    try:
        facts = facts_of(job)
        if facts is None or read_json(job.done)["model"] == _model_digest(job):
            return facts
    except (ValueError, KeyError, TypeError):
        pass
    print_line(f"finetune: the model in {job.folder} is damaged; it is trained again")
    job.done.unlink()
    return None


def _model_digest(job: Job) -> str | None:
    """Of the model that the job saved; None where it saved none."""
    return folder_digest(job.folder) if job.folder.is_dir() else None


def _train(work: Work, trial: Trial | None, threads: FollowLoad) -> tuple[TrainingSettings, tuple[Any, Prepared]]:
    if process_count() == 1:
        return train_in_memory(
            work.settings, work.checkpoints, lambda fitting: train(replace(work, settings=fitting), trial, threads)
        )
    try:
        return work.settings, train(work, trial, threads)
    except torch.OutOfMemoryError as error:  # the others did not fail, and would wait for this one
        fix = "Set finetune.micro_batch_rows lower and gradient_accumulation_steps higher: the same global batch"
        raise TrainingError("the GPU's memory is not enough", where="finetune", fix=fix) from error


def _save(job: Job, trainer: Any, model: Any) -> None:
    form = FORM_OF[job.work.settings.objective]
    tokenizer = load_tokenizer(base_folder(job.work.record), job.chat_template, speaks=form != "labels")
    if form == "labels":  # who cuts texts where the tokenizer says, cuts them where they were cut
        tokenizer.model_max_length = min(tokenizer.model_max_length, read_json(TEMPLATES)["max_length_tokens"])
    save_model(model, tokenizer, job.folder, job.work)
    shutil.copyfile(TEMPLATES, job.folder / TEMPLATES.name)  # what it was taught by travels with it
    write_curves(job.folder / "curves.jsonl", trainer.state.log_history)


def _facts(
    trainer: Any, model: Any, prepared: Prepared, used: TrainingSettings, work: Work, threads: int
) -> dict[str, Any]:
    """What the receipt must know of the training, without anything that differs from run to run."""
    best = trainer.state.best_model_checkpoint
    return {
        "objective": used.objective,
        "device": device_name(),
        "precision": work.precision,
        "threads": threads,
        "processes": process_count(),
        **({"strategy": strategy_of(trainer)} if process_count() > 1 else {}),
        "effective_micro_batch_rows": used.micro_batch_rows,
        "gradient_accumulation_steps": used.gradient_accumulation_steps,
        "seed": used.seed,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 6),
        "best_step": int(best.split("-")[-1]) if best else trainer.state.global_step,
        **prepared.facts,
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in model.parameters()),
    }
