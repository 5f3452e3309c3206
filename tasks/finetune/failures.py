"""Failures of the machine during training (GPU memory, disk), and how they are handled."""

from __future__ import annotations

import gc
import logging
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from tasks.errors import TrainingError
from tasks.finetune.settings import TrainingSettings
from tasks.runtime.files import read_json, write_json

logger = logging.getLogger(__name__)

MICRO_BATCH_FILE = "fitting.json"
"""In the checkpoint folder: the micro-batch that fits into GPU memory, where it is smaller than the settings'."""

DISK_FULL_MESSAGES = ("No space left on device", "os error 28", "PytorchStreamWriter failed")
"""Error texts of libraries that report a full disk without an OSError."""

Result = TypeVar("Result")


class Mishap(TrainingError):
    """A failure of the machine, not of the training. Another run resumes it."""


def train_with_oom_retries(
    settings: TrainingSettings, checkpoints: Path, train: Callable[[TrainingSettings], Result]
) -> tuple[TrainingSettings, Result]:
    """Calls `train`; on out-of-memory, halves the micro-batch, keeps the global batch, and trains again from step 0.

    The smaller micro-batch is stored in the checkpoint folder, for a run that resumes. Training restarts because the last bits of
    the weights depend on the micro-batch. Out-of-memory occurs in the first steps, so little work is lost.

    Returns:
        The settings used, and the result of `train`.

    Raises:
        TrainingError: one packed row does not fit.
    """
    if (checkpoints / MICRO_BATCH_FILE).is_file():
        settings = settings.model_copy(update=read_json(checkpoints / MICRO_BATCH_FILE))
    while True:
        try:
            return settings, train(settings)
        except torch.OutOfMemoryError as error:
            if settings.micro_batch_rows == 1:
                fix = "Set finetune.gradient_checkpointing: true, method: qlora, or lower render.pack_length_tokens"
                raise TrainingError("out of GPU memory", where="finetune", fix=fix) from error
            settings = halve_micro_batch(settings)
        gc.collect()
        torch.cuda.empty_cache()
        for path in checkpoints.glob("checkpoint-*"):
            shutil.rmtree(path)
        rows, steps = settings.micro_batch_rows, settings.gradient_accumulation_steps
        write_json(checkpoints / MICRO_BATCH_FILE, {"micro_batch_rows": rows, "gradient_accumulation_steps": steps})
        logger.info(
            f"finetune: out of GPU memory; training restarts with micro_batch_rows {rows} and "
            f"gradient_accumulation_steps {steps}: the same global batch"
        )


def halve_micro_batch(settings: TrainingSettings) -> TrainingSettings:
    """The largest micro-batch of at most half the rows that keeps the global batch."""
    global_batch = settings.micro_batch_rows * settings.gradient_accumulation_steps
    rows = next(n for n in range(settings.micro_batch_rows // 2, 0, -1) if global_batch % n == 0)
    return settings.model_copy(update={"micro_batch_rows": rows, "gradient_accumulation_steps": global_batch // rows})


@contextmanager
def report_full_disk(checkpoints: Path) -> Iterator[None]:
    """Turns a library's error about a full disk into a one-line Mishap. The previous checkpoint stays intact."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or not any(message in str(error) for message in DISK_FULL_MESSAGES):
            raise  # an OSError is reported by `tasks.errors.disk_message`
        fix = (
            "Free some (`dvc gc -w -T`, old folders in .strop/checkpoints), then run again: training resumes from the last "
            "complete one"
        )
        raise Mishap("no space left for a checkpoint", where=str(checkpoints), fix=fix) from error
