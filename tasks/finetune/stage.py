"""Room `finetune`: rendered rows → data/model. The same command on a CPU and a GPU. Run: `python -m tasks finetune`

Killed and run again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tasks import paths
from tasks.base.load import best_precision, device_name, load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import read_base
from tasks.files import read_json, write_json
from tasks.finetune.checkpoints import checkpoint_folder
from tasks.finetune.mishaps import telling_of_a_full_disk, train_in_memory
from tasks.finetune.model import require_method, save_model
from tasks.finetune.objectives import Prepared, Work
from tasks.finetune.telling import write_curves
from tasks.finetune.training import train
from tasks.progress import say
from tasks.rendered import FORM_OF, TEMPLATES
from tasks.start import start_folder

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.finetune.settings import TrainingSettings


def run(config: PipelineConfig) -> None:
    """Writes data/model and data/reports/training.json.

    Raises:
        TrainingError: the memory is not enough, the loss is no number, or another process trains the same.
        Interrupted: a signal ended it; a checkpoint is kept.
        DataError: there are no rows for an objective; or early stopping is on, and there is no validation row.
    """
    trainings = config.finetune.trainings()
    for settings in trainings:
        require_method(settings)
    record = read_base()
    facts: list[dict[str, Any]] = []
    start, reward_model = start_folder(), None
    with checkpoint_folder(config, record.digest) as checkpoints, telling_of_a_full_disk(checkpoints):
        for number, settings in enumerate(trainings, 1):
            is_last = number == len(trainings)
            work = Work(
                settings,
                record,
                precision=best_precision() if settings.precision == "auto" else settings.precision,
                checkpoints=checkpoints if is_last else checkpoints / f"training-{number}",
                start=start,
                reward_model=reward_model,
            )
            folder = paths.MODEL if is_last else work.checkpoints / "model"
            if len(trainings) > 1:
                say(f"finetune: training {number} of {len(trainings)}, objective {settings.objective}")
            facts.append(_train_into(folder, work, config.base.chat_template))
            if settings.objective == "reward":
                reward_model = folder
            else:
                start = folder
    write_json(paths.TRAINING_REPORT, {**facts[-1], **({"before": facts[:-1]} if facts[:-1] else {})})


def _train_into(folder: Path, work: Work, chat_template: str) -> dict[str, Any]:
    """Trains, saves the model in `folder`, and returns what the receipt must know of it."""
    known = work.checkpoints / "training.json"
    if (
        folder != paths.MODEL and known.is_file()
    ):  # of the trainings before, one that is done is kept while the others run
        found: dict[str, Any] = read_json(known)
        return found
    work.checkpoints.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(work.settings.threads or physical_cores())
    used, (trainer, prepared) = train_in_memory(
        work.settings, work.checkpoints, lambda fitting: train(replace(work, settings=fitting))
    )
    form = FORM_OF[work.settings.objective]
    tokenizer = load_tokenizer(base_folder(work.record), chat_template, speaks=form != "labels")
    save_model(trainer.model, tokenizer, folder, work)
    shutil.copyfile(TEMPLATES, folder / TEMPLATES.name)  # what it was taught by travels with it
    write_curves(folder / "curves.jsonl", trainer.state.log_history)
    facts = _facts(trainer, prepared, used, work)
    if folder != paths.MODEL:
        write_json(known, facts)
    return facts


def physical_cores() -> int:
    """Physical cores that this process may use: a thread more than that costs more than it brings."""
    import os

    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def _facts(trainer: Any, prepared: Prepared, used: TrainingSettings, work: Work) -> dict[str, Any]:
    """What the receipt must know of the training, without anything that differs from run to run."""
    best = trainer.state.best_model_checkpoint
    return {
        "objective": used.objective,
        "device": device_name(),
        "precision": work.precision,
        "threads": torch.get_num_threads(),
        "effective_micro_batch_rows": used.micro_batch_rows,
        "gradient_accumulation_steps": used.gradient_accumulation_steps,
        "seed": used.seed,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 6),
        "best_step": int(best.split("-")[-1]) if best else trainer.state.global_step,
        **prepared.facts,
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }
