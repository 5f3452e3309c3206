"""Room `finetune`: rendered rows → data/model. The same command on a CPU and a GPU. Run: `python -m tasks finetune`

Killed and run again, it goes on from its last checkpoint.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainingArguments, set_seed

from tasks import paths
from tasks.base.load import Precision, best_precision, device_name, load_tokenizer
from tasks.base.materialise import base_folder
from tasks.base.resolve import BaseRecord, read_base
from tasks.errors import DataError, TrainingError
from tasks.files import write_json
from tasks.finetune.checkpoints import MarkComplete, checkpoint_folder, last_checkpoint
from tasks.finetune.model import build_model, save_model
from tasks.finetune.packed import PackedRows
from tasks.finetune.telling import Tell, write_curves
from tasks.finetune.trainer import AnswerTrainer
from tasks.progress import track
from tasks.rendered import Rendered, read_rendered

if TYPE_CHECKING:
    from tasks.config import PipelineConfig
    from tasks.finetune.settings import FinetuneSettings

OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}


def run(config: PipelineConfig) -> None:
    """Writes data/model and data/reports/training.json.

    Raises:
        TrainingError: the memory is not enough, the loss is no number, or another process trains the same.
        DataError: early stopping is on, and there is no validation row.
    """
    settings = config.finetune
    record = read_base()
    train, valid = read_rendered("train"), read_rendered("valid")
    if settings.early_stopping_patience and not len(valid):
        raise DataError(
            "early stopping needs rows on the valid side", where=str(paths.RENDERED), fix="Raise curate.valid_share"
        )
    precision = best_precision() if settings.precision == "auto" else settings.precision
    threads = settings.threads or physical_cores()
    torch.set_num_threads(threads)
    set_seed(settings.seed)
    try:
        with checkpoint_folder(config, record.digest) as checkpoints:
            trainer = _train(settings, record, train, valid, precision, checkpoints)
            tokenizer = load_tokenizer(base_folder(record), config.base.chat_template)
            save_model(trainer.model, tokenizer, paths.MODEL, record.id)
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the GPU's memory is not enough",
            where="finetune",
            fix="Set finetune.gradient_checkpointing: true, lower finetune.micro_batch_rows or render.pack_length_tokens",
        ) from error
    write_curves(paths.MODEL / "curves.jsonl", trainer.state.log_history)
    write_json(paths.TRAINING_REPORT, _facts(trainer, settings, train, precision, threads))


def _train(
    settings: FinetuneSettings,
    record: BaseRecord,
    train: Rendered,
    valid: Rendered,
    precision: Precision,
    checkpoints: Path,
) -> AnswerTrainer:
    model = build_model(record, settings, precision)
    arguments = training_arguments(settings, len(train), len(valid), precision, checkpoints)
    steps = total_steps(settings, len(train))
    tokens_per_step = len(train.input_ids) / steps_per_epoch(settings, len(train))
    callbacks: list[Any] = [MarkComplete()]
    if settings.early_stopping_patience:
        callbacks.append(EarlyStoppingCallback(settings.early_stopping_patience))
    with track("finetune", total=round(steps * tokens_per_step), unit="tokens") as progress:
        trainer = AnswerTrainer(
            model=model,
            args=arguments,
            train_dataset=PackedRows(train),
            eval_dataset=PackedRows(valid),
            callbacks=[*callbacks, Tell(progress, tokens_per_step)],
        )
        trainer.remove_callback(PrinterCallback)
        last = last_checkpoint(checkpoints)
        if last is not None:
            print(f"finetune: goes on from step {last.name.split('-')[1]}", flush=True)
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    return trainer


def training_arguments(
    settings: FinetuneSettings, train_rows: int, valid_rows: int, precision: Precision, checkpoints: Path
) -> TrainingArguments:
    """The Trainer's arguments for `settings`, given the numbers of packed rows."""
    evaluates = bool(settings.evaluations_per_epoch and valid_rows)
    eval_steps = max(1, math.ceil(steps_per_epoch(settings, train_rows) / max(settings.evaluations_per_epoch, 1)))
    keeps_best = bool(settings.early_stopping_patience and evaluates)
    arguments = TrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps or -1,
        per_device_train_batch_size=settings.micro_batch_rows,
        per_device_eval_batch_size=settings.micro_batch_rows,
        gradient_accumulation_steps=settings.gradient_accumulation_steps,
        optim=OPTIMIZERS[settings.optimizer],
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=round(settings.warmup_share * total_steps(settings, train_rows)),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        bf16=precision == "bf16",
        use_cpu=device_name() == "cpu",
        eval_strategy="steps" if evaluates else "no",
        eval_steps=eval_steps if evaluates else None,
        save_strategy="steps",
        save_steps=eval_steps if keeps_best else settings.checkpoint_every_steps,
        save_total_limit=2,
        load_best_model_at_end=keeps_best,
        metric_for_best_model="eval_loss" if keeps_best else None,
        greater_is_better=False if keeps_best else None,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to=[],
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one flat batch cannot be scattered over several GPUs
    return arguments


def steps_per_epoch(settings: FinetuneSettings, train_rows: int) -> int:
    """Optimiser steps an epoch."""
    return math.ceil(math.ceil(train_rows / settings.micro_batch_rows) / settings.gradient_accumulation_steps)


def total_steps(settings: FinetuneSettings, train_rows: int) -> int:
    """Optimiser steps in all, unless training stops early."""
    return settings.max_steps or math.ceil(settings.epochs * steps_per_epoch(settings, train_rows))


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
