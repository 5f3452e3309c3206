"""Checkpoints: outside DVC, in a folder named by a key of all inputs, resumed only with the same key, deleted on success."""

from __future__ import annotations

import contextlib
import logging
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback, TrainerCallback

from tasks import paths
from tasks.errors import TrainingError
from tasks.finetune.process_group import barrier, is_rank_zero
from tasks.runtime.files import content_digest, file_digest, folder_digest, read_json
from tasks.runtime.import_closure import code_digest
from tasks.runtime.sealed_folder import SEAL, damage_of, seal
from tasks.state.training_start import read_start

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def checkpoint_folder(config: Any, base_digest: str, is_first_node: bool = True) -> Iterator[Path]:
    """The locked folder of this training; it is removed if the block succeeds. Other nodes use it without the lock.

    Raises:
        TrainingError: another process runs the same training.
    """
    from filelock import FileLock, Timeout

    code: list[Any] = [code_digest("tasks/finetune")]
    launch_config = config.finetune.launch.config
    if launch_config is not None and Path(launch_config).is_file():
        code.append([launch_config, file_digest(Path(launch_config))])
    # the number of trials of a search may be raised between runs
    settings = [config.finetune.model_dump(exclude={"search": {"trials"}}), config.base.model_dump()]
    key = content_digest([folder_digest(paths.RENDERED), *settings, asdict(read_start()), base_digest, code])
    folder = paths.CHECKPOINTS / key[:16]
    folder.mkdir(parents=True, exist_ok=True)
    if not is_first_node:
        yield folder
        return
    lock = FileLock(paths.CHECKPOINTS / f"{key[:16]}.lock", timeout=5)
    try:
        with lock:
            yield folder
            shutil.rmtree(folder)
    except Timeout as error:
        raise TrainingError(
            "another process runs the same training", where=str(folder), fix="Wait for it, then run again"
        ) from error


def last_checkpoint(folder: Path, step: int | None = None) -> Path | None:
    """The newest intact checkpoint (up to a step); damaged ones are reported and removed.

    Each lists its files with their digests (tasks/runtime/sealed_folder.py). A checkpoint also counts as damaged where its best
    checkpoint, whose weights would be used at the end, is damaged.
    """
    damaged: set[str] = set()
    newest = None
    steps = {path: int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")}
    for path in sorted(steps, key=lambda path: steps[path]):
        if (damage := damage_of(path) or _damage_of_best(path, damaged)) != "":
            damaged.add(path.name)
            if (path / SEAL).is_file():  # without a seal, a kill interrupted its saving, which is no error
                logger.warning(f"finetune: the checkpoint of step {steps[path]} is damaged ({damage}); it is not used")
            shutil.rmtree(path)
        elif step is None or steps[path] <= step:
            newest = path
    return newest


def _damage_of_best(path: Path, damaged: set[str]) -> str:
    """Why an intact checkpoint cannot be resumed: the best checkpoint that it refers to is damaged or missing; "" if it can."""
    best = read_json(path / "trainer_state.json").get("best_model_checkpoint")
    if best is None or Path(best).name == path.name:
        return ""
    is_there = (path.parent / Path(best).name).is_dir() and Path(best).name not in damaged
    return "" if is_there else f"its best one so far, {Path(best).name}, is damaged or missing"


def require_best(folder: str | None) -> None:
    """Raises TrainingError where the best checkpoint is damaged: its weights would become the model."""
    if folder is None or not (damage := damage_of(Path(folder))):
        return
    shutil.rmtree(folder, ignore_errors=True)
    what = f"the best checkpoint is damaged ({damage})"
    raise TrainingError(what, where=folder, fix="Run again: training resumes from an earlier one")


class SealCheckpoint(TrainerCallback):  # type: ignore[misc]
    """Seals a checkpoint when it is complete: lists its files with their digests."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        barrier()  # each process saves its random state
        if is_rank_zero():
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class SaveEvery(TrainerCallback):  # type: ignore[misc]
    """Saves every `steps` steps in trainings that otherwise save only with evaluations, to keep the best."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps == 0:
            control.should_save = True


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """Early stopping that also ends a training resumed from the checkpoint of its last evaluation."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        super().on_train_begin(args, state, control, **named)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
