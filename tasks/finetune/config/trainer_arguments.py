"""The Trainer's arguments for our settings; any other of its fields may be set under `finetune.trainer`."""

from __future__ import annotations

import difflib
import importlib
import math
import os
from collections.abc import Iterable
from dataclasses import fields
from typing import Any

from transformers import TrainingArguments

from tasks.base.load import device_name
from tasks.errors import TrainingError, one_line
from tasks.finetune.config.lr_schedules import NAMES, require_schedule
from tasks.finetune.process_group import process_count
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.work import Work

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # ORPO is one of TRL's experiments

KINDS = {
    "dpo": ("trl", "DPOConfig"),
    "orpo": ("trl.experimental.orpo", "ORPOConfig"),
    "kto": ("trl", "KTOConfig"),
    "reward": ("trl", "RewardConfig"),
    "grpo": ("trl", "GRPOConfig"),
}
"""Objective → module and class of its arguments, where they are not transformers' own."""

OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}

OURS = {
    "num_train_epochs": "epochs",
    "max_steps": "max_steps",
    "per_device_train_batch_size": "micro_batch_rows",
    "per_device_eval_batch_size": "micro_batch_rows",
    "gradient_accumulation_steps": "gradient_accumulation_steps",
    "learning_rate": "learning_rate",
    "lr_scheduler_type": "schedule",
    "warmup_steps": "warmup_share",
    "weight_decay": "weight_decay",
    "max_grad_norm": "max_grad_norm",
    "bf16": "precision",
    "fp16": "precision",
    "eval_strategy": "evaluations_per_epoch",
    "eval_steps": "evaluations_per_epoch",
    "save_steps": "checkpoint_every_steps",
    "save_strategy": "checkpoint_every_steps",
    "load_best_model_at_end": "early_stopping_patience",
    "gradient_checkpointing": "gradient_checkpointing",
    "label_smoothing_factor": "label_smoothing",
    "neftune_noise_alpha": "neftune_alpha",
    "seed": "seed",
    "data_seed": "seed",
    "fsdp": "launch.strategy",
    "deepspeed": "launch.strategy",
    "fsdp_config": "launch.config",
}
"""Fields of TrainingArguments that a setting of ours stands for."""

KEPT = (
    *("output_dir", "report_to", "logging_steps", "logging_strategy", "logging_nan_inf_filter", "disable_tqdm"),
    *("remove_unused_columns", "label_names", "resume_from_checkpoint", "push_to_hub", "use_cpu", "save_total_limit"),
    *("metric_for_best_model", "greater_is_better", "do_train", "do_eval", "do_predict", "group_by_length"),
    *("save_only_model", "ignore_data_skip", "dataloader_drop_last", "auto_find_batch_size"),
    "train_sampling_strategy",
    "restore_callback_states_from_checkpoint",
)
"""Fields that Strop needs as they are: checkpoints, curves and the packed batches hang on them."""

FOREIGN = ("trust_remote_code", "model_init_kwargs", "ref_model_init_kwargs", "hub_token")
"""Fields by which a model's own code would be trusted unpinned, or a secret would stand in params.yaml."""

_TRL = ("gradient_checkpointing", "gradient_checkpointing_kwargs", "max_length")
_GENERATION = ("num_generations", "num_generations_eval", "max_completion_length", "generation_batch_size")
OF_OBJECTIVE = {
    "dpo": (*_TRL, "beta", "loss_type", "label_smoothing", "precompute_ref_log_probs"),
    "orpo": (*_TRL, "beta", "disable_dropout"),
    "kto": (
        *(*_TRL, "beta", "desirable_weight", "undesirable_weight", "precompute_ref_log_probs"),
        "train_sampling_strategy",
    ),
    "reward": (*_TRL, "disable_dropout"),
    "grpo": (
        *("gradient_checkpointing", "gradient_checkpointing_kwargs", "beta", "temperature", *_GENERATION),
        *("reward_weights", "per_device_train_batch_size", "per_device_eval_batch_size", "steps_per_generation"),
        *("num_iterations", "disable_dropout", "generation_kwargs", "log_completions"),
    ),
}
"""Objective → fields that it sets itself; known here so that whoever sets one, too, is told before any training."""


def training_arguments(
    work: Work, train_rows: int, valid_rows: int, kind: type[TrainingArguments] = TrainingArguments, **more: Any
) -> Any:
    """The Trainer's arguments, given the numbers of rows (packed ones, pairs, ...) on both sides.

    Args:
        kind: the class that they are of: TRL's trainers have classes of their own.
        more: fields of that class that an objective sets.

    Raises:
        TrainingError: `trainer` names no field of `kind`, one of ours, or gives a value that it, or the schedule, refuses.
    """
    settings = work.settings
    assert more.keys() <= set(OF_OBJECTIVE.get(settings.objective, ())), "those that may not be set stand in the table"
    evaluates = bool(settings.evaluations_per_epoch and valid_rows)
    eval_steps = max(1, math.ceil(steps_per_epoch(settings, train_rows) / max(settings.evaluations_per_epoch, 1)))
    keeps_best = bool(settings.early_stopping_patience and evaluates)
    given: dict[str, Any] = {
        "output_dir": str(work.checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.micro_batch_rows,
        "per_device_eval_batch_size": settings.micro_batch_rows,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps // process_count(),  # they share them
        "optim": OPTIMIZERS[settings.optimizer],
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": NAMES.get(settings.schedule, settings.schedule),
        "warmup_steps": round(settings.warmup_share * total_steps(settings, train_rows)),
        "weight_decay": settings.weight_decay,
        "max_grad_norm": settings.max_grad_norm,
        "bf16": work.precision == "bf16",
        "use_cpu": device_name() == "cpu",
        "eval_strategy": "steps" if evaluates else "no",
        "eval_steps": eval_steps if evaluates else None,
        "save_strategy": "steps",
        "save_steps": eval_steps if keeps_best else settings.checkpoint_every_steps,
        "save_total_limit": 2,
        "load_best_model_at_end": keeps_best,
        "restore_callback_states_from_checkpoint": keeps_best,  # or a resumed training forgets its bad evaluations
        "metric_for_best_model": "eval_loss" if keeps_best else None,
        "greater_is_better": False if keeps_best else None,
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "disable_tqdm": True,
        "report_to": [],
        "remove_unused_columns": False,
        "dataloader_pin_memory": False,
        "seed": settings.seed,
        "data_seed": settings.seed,
        **more,
    }
    try:
        arguments = kind(**{**given, **_checked(settings.trainer, kind, settings.objective)})
    except (TypeError, ValueError) as error:
        told = one_line(error)
        raise TrainingError(f"finetune.trainer: {told}", where="params.yaml", fix="Mend it") from error
    require_schedule(settings, total_steps(settings, train_rows), arguments.lr_scheduler_kwargs)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one flat batch cannot be scattered over several GPUs
    return arguments


def arguments_kind(objective: str) -> type[Any]:
    """The class of the arguments of the objective's trainer."""
    module, name = KINDS.get(objective, ("transformers", "TrainingArguments"))
    kind: type[Any] = getattr(importlib.import_module(module), name)
    return kind


def require_fields(objective: str, names: Iterable[str]) -> None:
    """Raises TrainingError where `finetune.trainer` may not have one of the names."""
    _checked(dict.fromkeys(names), arguments_kind(objective), objective)


def _checked(extra: dict[str, Any], kind: type[TrainingArguments], objective: str) -> dict[str, Any]:
    """The user's own fields; one that we only give a default is theirs."""
    known = {field.name for field in fields(kind) if field.init}
    for name in extra:
        if name in OF_OBJECTIVE.get(objective, ()):
            what, fix = "is set by the objective's own settings", "See docs/settings.md, section finetune"
        elif name in OURS:
            what, fix = f"is set by finetune.{OURS[name]}", f"Set finetune.{OURS[name]} instead"
        elif name in KEPT:
            what, fix = "may not be set: Strop's checkpoints, curves or batches depend on it", "Leave it out"
        elif name in FOREIGN:
            what, fix = "may not be set: no model's code runs, and no secret is kept, by it", "See docs/security.md"
        elif name not in known:
            near = difflib.get_close_matches(name, known, n=3)
            what, fix = f"is no field of {kind.__name__}", f"Nearest: {', '.join(near) or 'none'}"
        else:
            continue
        raise TrainingError(f"finetune.trainer.{name} {what}", where="params.yaml", fix=fix)
    return extra


def steps_per_epoch(settings: TrainingSettings, train_rows: int) -> int:
    """Optimiser steps an epoch."""
    return math.ceil(math.ceil(train_rows / settings.micro_batch_rows) / settings.gradient_accumulation_steps)


def total_steps(settings: TrainingSettings, train_rows: int) -> int:
    """Optimiser steps in all, unless training stops early."""
    return settings.max_steps or math.ceil(settings.epochs * steps_per_epoch(settings, train_rows))
