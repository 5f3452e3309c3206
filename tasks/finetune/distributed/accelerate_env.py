"""FSDP and DeepSpeed: environment variables from a file of `accelerate config`, parsed by accelerate itself."""

from __future__ import annotations

import argparse
import importlib.util
import os
from pathlib import Path

import torch

from tasks.errors import TrainingError, one_line
from tasks.finetune.config.launch_settings import LaunchSettings
from tasks.runtime.bounded_yaml import load_yaml
from tasks.runtime.threads import explicit_threads

DISTRIBUTED_TYPES = {"fsdp": "FSDP", "deepspeed": "DEEPSPEED"}
"""Strategy → accelerate's name for it in `distributed_type`."""


def require_sharding(settings: LaunchSettings) -> None:
    """Raises TrainingError where the file is missing, damaged or for another strategy, or a library or GPU is missing."""
    if settings.config is None:
        return
    _require_strategy(settings)
    if settings.strategy == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        what = "finetune.launch.strategy: deepspeed needs DeepSpeed"
        raise TrainingError(what, where="params.yaml", fix="pip install deepspeed, or set strategy: fsdp")
    if not torch.cuda.is_available():  # accelerate would silently use DDP
        what = f"finetune.launch.strategy: {settings.strategy} needs GPUs, and there is none"
        raise TrainingError(what, where="params.yaml", fix="Set strategy: ddp")


def sharding_environment(settings: LaunchSettings) -> dict[str, str]:
    """The environment variables with which accelerate shards a model; none for DDP."""
    if settings.config is None:
        return {}
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env, prepare_multi_gpu_env

    options = ["--config_file", settings.config, "--num_processes", str(settings.all_processes), "--num_machines", "1"]
    options += ["--main_process_port", "0", "--num_cpu_threads_per_process", str(explicit_threads() or 1)]
    try:
        arguments: argparse.Namespace = launch_command_parser().parse_args(
            [*options, "-m", "tasks.finetune.distributed.worker"]
        )
        arguments, defaults, _ = _validate_launch_command(arguments)
        arguments.mixed_precision = "no"  # Strop sets the precision
        if settings.strategy == "deepspeed":
            arguments.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config or {})
            _, variables = prepare_deepspeed_cmd_env(arguments)
        else:
            variables = prepare_multi_gpu_env(arguments)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise TrainingError(
            f"accelerate rejects it: {one_line(error)}", where=settings.config, fix="Fix it: accelerate config"
        ) from error
    prefixes = ("ACCELERATE_", "FSDP_")
    return {
        name: value for name, value in variables.items() if name.startswith(prefixes) and os.environ.get(name) != value
    }


def _require_strategy(settings: LaunchSettings) -> None:
    path = Path(settings.config or "")
    fix = f"Write one: accelerate config --config_file {path}"
    try:
        fields = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        what = "not found" if isinstance(error, FileNotFoundError) else "cannot be parsed as YAML"
        raise TrainingError(what, where=str(path), fix=fix) from error
    kind = fields.get("distributed_type") if isinstance(fields, dict) else None
    expected = DISTRIBUTED_TYPES[settings.strategy]
    if kind != expected:
        what = f"distributed_type is {kind}, but finetune.launch.strategy: {settings.strategy} needs {expected}"
        raise TrainingError(what, where=str(path), fix=fix)
