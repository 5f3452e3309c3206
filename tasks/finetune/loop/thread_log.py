"""The number of threads of each training, and each step at which it changed: written down before it is computed with.

The last bits of weights may depend on the number of threads, so it changes between two optimiser steps only, and a training that is
resumed, or made again by `strop audit --rebuild`, follows the log: the same weights, whatever the load is then.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from tasks.finetune.process_group import world_size
from tasks.finetune.work import Work
from tasks.runtime.files import read_json, write_json
from tasks.runtime.progress import say
from tasks.runtime.threads import Threads, explicit_threads

FOLLOWED = "STROP_THREADS"
"""In the environment: a log, as JSON, that the trainings follow to the end."""

Entry = tuple[str, int, int]
"""Training, optimiser step, and threads from there on."""


class ThreadLog:
    """A file of entries in the folder of the checkpoints."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_followed = FOLLOWED in os.environ
        found = json.loads(os.environ[FOLLOWED]) if self.is_followed else read_json(path) if path.is_file() else []
        self.entries: list[Entry] = [(str(name), int(step), int(threads)) for name, step, threads in found]

    def at(self, training: str, step: int) -> int | None:
        """Threads at a step; None where the training has not begun."""
        before = [entry for entry in self.entries if entry[0] == training and entry[1] <= step]
        return max(before, key=lambda entry: entry[1])[2] if before else None

    def last_step(self, training: str) -> int:
        """The last at which the number was set."""
        return max((step for name, step, _ in self.entries if name == training), default=-1)

    def set(self, training: str, step: int, threads: int) -> None:
        """From this step on; what was written of later ones goes."""
        self.entries = [entry for entry in self.entries if entry[0] != training or entry[1] < step]
        self.entries.append((training, step, threads))
        write_json(self.path, self.entries)

    def facts(self) -> dict[str, Any]:
        """For the receipt: the whole log, where one number does not say it."""
        return {"threads_by_step": self.entries} if len({threads for _, _, threads in self.entries}) > 1 else {}


def log_of(work: Work) -> ThreadLog:
    """The log that a training stands in."""
    return ThreadLog(work.thread_log or work.checkpoints / "threads.json")


def training_name(work: Work, trial: int | None) -> str:
    """What the log calls it."""
    name = "last" if work.before is None else f"before-{work.before}"
    return name if trial is None else f"{name}, trial {trial}"


def first_threads(work: Work, name: str, processes: int = 1, nodes: int = 1, node: int = 0) -> int:
    """The number that a training begins with: of the settings or the log; else of the environment or the load, and then logged.

    Args:
        processes: so many of them train on this machine.
        nodes: so many machines train it; then the load is left out, as none knows that of the others.
    """
    if work.settings.threads is not None:
        return work.settings.threads
    log = log_of(work)
    if node == 0 and (known := log.at(name, 0)) is not None:
        return known
    threads = Threads("finetune", processes)
    choice = threads.choose() if nodes == 1 else threads.choose_for_idle()
    threads.tell(choice)
    if node == 0:
        log.set(name, 0, choice.threads)
    return choice.threads


class FollowLoad(TrainerCallback):  # type: ignore[misc]
    """Sets the threads of each step: those of the log up to its end, then as the load calls for.

    Several processes keep the number that they began with: they would have to agree.
    """

    def __init__(self, work: Work, name: str) -> None:
        alone = world_size() == 1
        self.name = name
        self.first = (
            first_threads(work, name) if alone else work.settings.threads or explicit_threads() or 1
        )  # launch.py
        self.log = log_of(work)
        self.is_fixed = work.settings.threads is not None or not alone or torch.cuda.is_available()
        self.threads = Threads("finetune")
        self.threads.use(self.first)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        explicit = explicit_threads()
        if self.is_fixed or self.log.is_followed or explicit is None:
            return
        if self.log.at(self.name, state.global_step) != explicit:  # another wish than when it was interrupted
            self.log.set(self.name, state.global_step, explicit)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.is_fixed:
            return
        step = state.global_step
        is_new = step > self.log.last_step(self.name) and not self.log.is_followed
        if is_new and (choice := self.threads.proposed()) is not None:
            self.log.set(self.name, step, choice.threads)
            say(f"finetune: {choice} from step {step + 1}")
        self.threads.use(self.log.at(self.name, step) or self.first)
