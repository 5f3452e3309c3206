"""Checkpoints: outside DVC, in a folder named by what is trained on what, resumed only there, gone on success."""

from __future__ import annotations

import contextlib
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
from tasks.runtime.progress import say
from tasks.runtime.sealed_folder import SEAL, damage_of, seal
from tasks.state.training_start import read_start


@contextlib.contextmanager
def checkpoint_folder(config: Any, base_digest: str, is_first_node: bool = True) -> Iterator[Path]:
    """The folder of this very work, locked; it is removed if the block ends well. The other nodes of several work in it, too.

    Raises:
        TrainingError: another process trains the same.
    """
    from filelock import FileLock, Timeout

    code: list[Any] = [code_digest("tasks/finetune")]
    sharing = config.finetune.launch.config
    if sharing is not None and Path(sharing).is_file():
        code.append([sharing, file_digest(Path(sharing))])
    # a search may be given more trials while it goes on
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
            "another process trains this very model", where=str(folder), fix="Wait for it, then run again"
        ) from error


def last_checkpoint(folder: Path, step: int | None = None) -> Path | None:
    """The newest checkpoint (up to a step) that is as it was written; one that is not is reported, and removed.

    Each lists its files with their digests (tasks/runtime/sealed_folder.py). Where one is damaged, the one before it is
    taken; and also where the best one, whose weights would be taken at the end, is damaged.
    """
    damaged: set[str] = set()
    found = None
    steps = {path: int(path.name.split("-")[1]) for path in folder.glob("checkpoint-*")}
    for path in sorted(steps, key=lambda path: steps[path]):
        if (why := damage_of(path) or _damage_of_best(path, damaged)) != "":
            damaged.add(path.name)
            if (path / SEAL).is_file():  # else a kill tore it, and nothing is wrong
                say(f"finetune: the checkpoint of step {steps[path]} is damaged ({why}); it is not used")
            shutil.rmtree(path)
        elif step is None or steps[path] <= step:
            found = path
    return found


def _damage_of_best(path: Path, damaged: set[str]) -> str:
    """Why the checkpoint cannot be gone on from, though it is whole: it refers to a better one that is damaged or not there."""
    best = read_json(path / "trainer_state.json").get("best_model_checkpoint")
    if best is None or Path(best).name == path.name:
        return ""
    is_there = (path.parent / Path(best).name).is_dir() and Path(best).name not in damaged
    return "" if is_there else f"its best one so far, {Path(best).name}, is damaged or missing"


def require_best(folder: str | None) -> None:
    """Raises TrainingError where the best checkpoint is not as it was written: its weights would be the model."""
    if folder is None or not (why := damage_of(Path(folder))):
        return
    shutil.rmtree(folder, ignore_errors=True)
    what = f"the best checkpoint is damaged ({why})"
    raise TrainingError(what, where=folder, fix="Run again: it goes on from an earlier one")


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Lists a checkpoint's files when it is whole."""

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        barrier()  # each process saves its random state
        if is_rank_zero():
            seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class SaveOften(TrainerCallback):  # type: ignore[misc]
    """Saves every so many steps also where checkpoints are else written with evaluations, to keep the best."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step % self.steps == 0:
            control.should_save = True


class StopEarly(EarlyStoppingCallback):  # type: ignore[misc]
    """Ends a training also where the checkpoint that it goes on from was written by its last evaluation."""

    def on_train_begin(self, args: Any, state: Any, control: Any, **named: Any) -> None:
        super().on_train_begin(args, state, control, **named)
        if self.early_stopping_patience_counter >= self.early_stopping_patience:
            control.should_training_stop = True
