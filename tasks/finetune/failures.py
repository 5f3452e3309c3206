"""What may go wrong with the machine while training, and what is done about it."""

from __future__ import annotations

import gc
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import torch

from tasks.errors import TrainingError
from tasks.finetune.settings import TrainingSettings
from tasks.runtime.files import read_json, write_json
from tasks.runtime.progress import print_line

FITTING = "fitting.json"
"""In the folder of the checkpoints: the micro-batch that fits into the memory, where it is not the settings'."""

FULL = ("No space left on device", "os error 28", "PytorchStreamWriter failed")
"""How libraries that are not Python's own say that the disk is full."""

Trained = TypeVar("Trained")


class Mishap(TrainingError):
    """Something befell the machine; what is trained is not to blame, and may go on when it is run again."""


def train_in_memory(
    settings: TrainingSettings, checkpoints: Path, train: Callable[[TrainingSettings], Trained]
) -> tuple[TrainingSettings, Trained]:
    """Trains; where a GPU's memory is not enough, with half the micro-batch, and so with the same global batch.

    It is kept beside the checkpoints, for a run that goes on from them. Training then begins anew, as weights follow
    from the micro-batch to the last bit; the first steps are those that fail.

    Returns:
        The settings that it was trained with, and what `train` gave.

    Raises:
        TrainingError: one packed row is too much.
    """
    if (checkpoints / FITTING).is_file():
        settings = settings.model_copy(update=read_json(checkpoints / FITTING))
    while True:
        try:
            return settings, train(settings)
        except torch.OutOfMemoryError as error:
            if settings.micro_batch_rows == 1:
                fix = "Set finetune.gradient_checkpointing: true, method: qlora, or lower render.pack_length_tokens"
                raise TrainingError("the GPU's memory is not enough", where="finetune", fix=fix) from error
            settings = with_half_the_micro_batch(settings)
        gc.collect()
        torch.cuda.empty_cache()
        for path in checkpoints.glob("checkpoint-*"):
            shutil.rmtree(path)
        rows, steps = settings.micro_batch_rows, settings.gradient_accumulation_steps
        write_json(checkpoints / FITTING, {"micro_batch_rows": rows, "gradient_accumulation_steps": steps})
        print_line(
            f"finetune: the GPU's memory is not enough; begins anew with micro_batch_rows {rows} and "
            f"gradient_accumulation_steps {steps}: the same global batch"
        )


def with_half_the_micro_batch(settings: TrainingSettings) -> TrainingSettings:
    """At most half of it, so that the global batch stays what it is."""
    whole = settings.micro_batch_rows * settings.gradient_accumulation_steps
    rows = next(n for n in range(settings.micro_batch_rows // 2, 0, -1) if whole % n == 0)
    return settings.model_copy(update={"micro_batch_rows": rows, "gradient_accumulation_steps": whole // rows})


@contextmanager
def telling_of_a_full_disk(checkpoints: Path) -> Iterator[None]:
    """What a full disk makes libraries raise, as one line: a Mishap. The checkpoint before stays whole."""
    try:
        yield
    except Exception as error:
        if isinstance(error, OSError) or not any(words in str(error) for words in FULL):
            raise  # Python's own are told by `tasks.errors.disk_message`
        fix = "Free some (`dvc gc -w -T`, old folders in .strop/checkpoints), then run again: it goes on from the last whole one"
        raise Mishap("no space left for a checkpoint", where=str(checkpoints), fix=fix) from error
