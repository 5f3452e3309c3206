"""FSDP and DeepSpeed: what a file as `accelerate config` writes it says to the processes, by accelerate's own reading of it."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path
from typing import Any

import torch

from tasks.errors import TrainingError, one_line
from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.threads import explicit_threads

KINDS = {"fsdp": "FSDP", "deepspeed": "DEEPSPEED"}
"""Strategy → accelerate's name for it in `distributed_type`."""


def require_sharding(settings: LaunchSettings) -> None:
    """Raises TrainingError where the configuration is missing, damaged or of another strategy, or a library or GPU is missing."""
    if settings.config is None:
        return
    _fields(settings)
    if settings.strategy == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        what, fix = (
            "finetune.launch.strategy: deepspeed needs DeepSpeed",
            "pip install deepspeed, or set strategy: fsdp",
        )
        raise TrainingError(what, where="params.yaml", fix=fix)
    if not torch.cuda.is_available():  # accelerate would train as by ddp, and say nothing
        what = f"finetune.launch.strategy: {settings.strategy} needs GPUs, and there is none"
        raise TrainingError(what, where="params.yaml", fix="Set strategy: ddp")


def sharding_environment(settings: LaunchSettings) -> dict[str, str]:
    """The variables by which accelerate shares a model out. None are needed for DDP."""
    if settings.config is None:
        return {}
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    given = ["--config_file", settings.config, "--num_processes", str(settings.all_processes), "--num_machines", "1"]
    given += ["--main_process_port", "0", "--num_cpu_threads_per_process", str(explicit_threads() or 1)]
    try:
        arguments: argparse.Namespace = launch_command_parser().parse_args(
            [*given, "-m", "tasks.finetune.distributed.worker"]
        )
        arguments, defaults, _ = _validate_launch_command(arguments)
        arguments.mixed_precision = "no"  # what is computed in is ours to say
        if settings.strategy == "deepspeed":
            arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config or {})
            _, found = prepare_deepspeed_cmd_env(arguments)
        else:
            found = prepare_multi_gpu_env(arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        told = one_line(error)
        raise TrainingError(
            f"accelerate refuses it: {told}", where=settings.config, fix="Mend it: accelerate config"
        ) from error
    ours = ("ACCELERATE_", "FSDP_")
    return {name: value for name, value in found.items() if name.startswith(ours) and os.environ.get(name) != value}


def _fields(settings: LaunchSettings) -> dict[str, Any]:
    path = Path(settings.config or "")
    fix = f"Write one: accelerate config --config_file {path}"
    try:
        fields = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        told = "not found" if isinstance(error, FileNotFoundError) else "cannot be read as YAML"
        raise TrainingError(told, where=str(path), fix=fix) from error
    kind = fields.get("distributed_type") if isinstance(fields, dict) else None
    if kind != KINDS[settings.strategy]:
        what = f"distributed_type is {kind}, but finetune.launch.strategy: {settings.strategy} needs {KINDS[settings.strategy]}"
        raise TrainingError(what, where=str(path), fix=fix)
    found: dict[str, Any] = fields
    return found
