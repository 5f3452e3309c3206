"""The Trainer's arguments for our settings; any other of its fields may be set under `finetune.trainer`."""

from __future__ import annotations

import difflib
import importlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import fields
from typing import Any

from tasks.base.load import device_name
from tasks.errors import TrainingError, one_line
from tasks.finetune.config.lr_schedules import TRANSFORMERS_NAMES, require_schedule
from tasks.finetune.objective_table import OBJECTIVES
from tasks.finetune.process_group import world_size
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.work import Work

os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")  # ORPO is one of TRL's experiments

OPTIMIZERS = {"adamw": "adamw_torch", "sgd": "sgd"}

SETTING_OF_FIELD = {
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
"""Field of TrainingArguments → the setting of Strop that controls it."""

RESERVED = (
    *("output_dir", "report_to", "logging_steps", "logging_strategy", "logging_nan_inf_filter", "disable_tqdm"),
    *("remove_unused_columns", "label_names", "resume_from_checkpoint", "push_to_hub", "use_cpu", "save_total_limit"),
    *("metric_for_best_model", "greater_is_better", "do_train", "do_eval", "do_predict", "group_by_length"),
    *("save_only_model", "ignore_data_skip", "dataloader_drop_last", "auto_find_batch_size"),
    "train_sampling_strategy",
    "restore_callback_states_from_checkpoint",
)
"""Fields whose values Strop fixes: checkpoints, curves and packed batches depend on them."""

UNSAFE = ("trust_remote_code", "model_init_kwargs", "ref_model_init_kwargs", "hub_token")
"""Fields that would run a model's unpinned code, or put a secret into params.yaml."""


def training_arguments(work: Work, train_rows: int, valid_rows: int, **more: Any) -> Any:
    """The Trainer's arguments for the numbers of rows (packed rows, pairs, ...) of both splits, of the class of the objective.

    Args:
        more: fields that the objective sets, if its spec has no `field_values`.

    Raises:
        TrainingError: `trainer` names an unknown field or one that Strop sets, or a value is invalid.
    """
    arguments = parsed_arguments(work, train_rows, valid_rows, **more)
    steps = total_steps(work.settings, train_rows)
    require_schedule(work.settings, steps, arguments.lr_scheduler_kwargs)
    arguments._n_gpu = min(arguments.n_gpu, 1)  # one flat batch cannot be split over several GPUs
    return arguments


def parsed_arguments(work: Work, train_rows: int, valid_rows: int, **more: Any) -> Any:
    """As `training_arguments`, without a check of the schedule, which depends on the number of rows."""
    settings = work.settings
    kind = arguments_class(settings.objective)
    if settings.spec.field_values is not None:
        more = {**settings.spec.field_values(settings), **more}
    assert more.keys() <= set(settings.spec.sets), "fields that an objective sets must be in `sets` of its spec"
    evaluates = bool(settings.evaluations_per_epoch and valid_rows)
    eval_steps = max(1, math.ceil(steps_per_epoch(settings, train_rows) / max(settings.evaluations_per_epoch, 1)))
    keeps_best = bool(settings.early_stopping_patience and evaluates)
    defaults: dict[str, Any] = {
        "output_dir": str(work.checkpoints),
        "num_train_epochs": settings.epochs,
        "max_steps": settings.max_steps or -1,
        "per_device_train_batch_size": settings.micro_batch_rows,
        "per_device_eval_batch_size": settings.micro_batch_rows,
        "gradient_accumulation_steps": settings.gradient_accumulation_steps // world_size(),  # the processes share them
        "optim": OPTIMIZERS[settings.optimizer],
        "learning_rate": settings.learning_rate,
        "lr_scheduler_type": TRANSFORMERS_NAMES.get(settings.schedule, settings.schedule),
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
        "restore_callback_states_from_checkpoint": keeps_best,  # or a resumed training loses its count of bad evaluations
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
    require_fields(settings.objective, settings.trainer)
    try:
        return kind(**{**defaults, **settings.trainer})
    except (TypeError, ValueError) as error:
        raise TrainingError(f"finetune.trainer: {one_line(error)}", where="params.yaml", fix="Fix it") from error


def arguments_class(objective: str) -> type[Any]:
    """The class of the training arguments of an objective."""
    module, name = OBJECTIVES[objective].arguments
    kind: type[Any] = getattr(importlib.import_module(module), name)
    return kind


def require_fields(objective: str, names: Iterable[str]) -> None:
    """Raises TrainingError where one of the names may not be set under `finetune.trainer`."""
    for _, error in invalid_fields(objective, names):
        raise error


def invalid_fields(objective: str, names: Iterable[str]) -> Iterator[tuple[str, TrainingError]]:
    """(name, error) of each name that may not be set under `finetune.trainer`."""
    kind = arguments_class(objective)
    field_names = {field.name for field in fields(kind) if field.init}
    for name in names:
        if name in OBJECTIVES[objective].sets:
            what, fix = "is set by the objective's own settings", "See docs/settings.md, section finetune"
        elif name in SETTING_OF_FIELD:
            what, fix = f"is set by finetune.{SETTING_OF_FIELD[name]}", f"Set finetune.{SETTING_OF_FIELD[name]} instead"
        elif name in RESERVED:
            what, fix = "may not be set: Strop's checkpoints, curves or batches depend on it", "Leave it out"
        elif name in UNSAFE:
            what, fix = "may not be set: it could run a model's code, or store a secret", "See docs/security.md"
        elif name not in field_names:
            near = difflib.get_close_matches(name, field_names, n=3)
            what, fix = f"is not a field of {kind.__name__}", f"Nearest: {', '.join(near) or 'none'}"
        else:
            continue
        yield name, TrainingError(f"finetune.trainer.{name} {what}", where="params.yaml", fix=fix)


def steps_per_epoch(settings: TrainingSettings, train_rows: int) -> int:
    """Optimiser steps an epoch."""
    return math.ceil(math.ceil(train_rows / settings.micro_batch_rows) / settings.gradient_accumulation_steps)


def total_steps(settings: TrainingSettings, train_rows: int) -> int:
    """Optimiser steps in all, unless training stops early."""
    return settings.max_steps or math.ceil(settings.epochs * steps_per_epoch(settings, train_rows))
