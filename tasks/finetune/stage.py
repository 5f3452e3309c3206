"""Room `finetune`: rendered rows → data/model. The same command on a CPU and a GPU. Run: `python -m tasks finetune`

Killed and run again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import torch

from tasks import paths
from tasks.base.load import best_precision, device_name, load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import read_base
from tasks.errors import DataError
from tasks.files import write_json
from tasks.finetune.checkpoints import checkpoint_folder
from tasks.finetune.mishaps import telling_of_a_full_disk, train_in_memory
from tasks.finetune.model import require_method, save_model
from tasks.finetune.telling import write_curves
from tasks.finetune.trainer import AnswerTrainer
from tasks.finetune.training import train_model
from tasks.rendered import TEMPLATES, Rendered, read_rendered

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.finetune.settings import FinetuneSettings


def run(config: PipelineConfig) -> None:
    """Writes data/model and data/reports/training.json.

    Raises:
        TrainingError: the memory is not enough, the loss is no number, or another process trains the same.
        Interrupted: a signal ended it; a checkpoint is kept.
        DataError: early stopping is on, and there is no validation row.
    """
    settings = config.finetune
    require_method(settings)
    record = read_base()
    train, valid = read_rendered("train"), read_rendered("valid")
    if settings.early_stopping_patience and not len(valid):
        raise DataError(
            "early stopping needs rows on the valid side", where=str(paths.RENDERED), fix="Raise curate.valid_share"
        )
    precision = best_precision() if settings.precision == "auto" else settings.precision
    threads = settings.threads or physical_cores()
    torch.set_num_threads(threads)
    with checkpoint_folder(config, record.digest) as checkpoints, telling_of_a_full_disk(checkpoints):
        used, trainer = train_in_memory(
            settings,
            checkpoints,
            lambda fitting: train_model(fitting, record, train, valid, precision, checkpoints),
        )
        tokenizer = load_tokenizer(base_folder(record), config.base.chat_template)
        save_model(trainer.model, tokenizer, paths.MODEL, record)
    shutil.copyfile(TEMPLATES, paths.MODEL / TEMPLATES.name)  # what it was taught by travels with it
    write_curves(paths.MODEL / "curves.jsonl", trainer.state.log_history)
    write_json(paths.TRAINING_REPORT, _facts(trainer, used, train, precision, threads))


def physical_cores() -> int:
    """Physical cores that this process may use: a thread more than that costs more than it brings."""
    import os

    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))


def _facts(
    trainer: AnswerTrainer, settings: FinetuneSettings, train: Rendered, precision: str, threads: int
) -> dict[str, Any]:
    """What the receipt must know of the training, without anything that differs from run to run."""
    best = trainer.state.best_model_checkpoint
    return {
        "device": device_name(),
        "precision": precision,
        "threads": threads,
        "effective_micro_batch_rows": settings.micro_batch_rows,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps,
        "seed": settings.seed,
        "steps": trainer.state.global_step,
        "epochs": round(float(trainer.state.epoch or 0), 6),
        "best_step": int(best.split("-")[-1]) if best else trainer.state.global_step,
        "train_examples": len(train.packs),
        "train_packed_rows": len(train),
        "train_tokens": len(train.input_ids),
        "answer_tokens": int(train.loss_mask.sum()),
        "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
    }
