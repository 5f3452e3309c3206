"""Logs the number of threads of each training, and each step at which it changes, before it is used.

The last bits of weights may depend on the number of threads, so it changes between optimiser steps only. A training that is
resumed, or repeated by `strop reproduce`, replays the log and gets the same weights under any load.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback

from tasks.finetune.process_group import world_size
from tasks.finetune.work import Work
from tasks.runtime.files import read_json, write_json
from tasks.runtime.threads import Threads, explicit_threads

logger = logging.getLogger(__name__)

REPLAYED_LOG = "STROP_THREADS"
"""Environment variable with a log, as JSON, that the trainings replay to the end."""

Entry = tuple[str, int, int]
"""Training, optimiser step, and number of threads from that step on."""


class ThreadLog:
    """A file of entries in the checkpoint folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.is_replayed = REPLAYED_LOG in os.environ
        stored = json.loads(os.environ[REPLAYED_LOG]) if self.is_replayed else read_json(path) if path.is_file() else []
        self.entries: list[Entry] = [(str(name), int(step), int(threads)) for name, step, threads in stored]

    def at(self, training: str, step: int) -> int | None:
        """Threads at a step; None before the training has started."""
        before = [entry for entry in self.entries if entry[0] == training and entry[1] <= step]
        return max(before, key=lambda entry: entry[1])[2] if before else None

    def last_step(self, training: str) -> int:
        """The last step at which the number was set."""
        return max((step for name, step, _ in self.entries if name == training), default=-1)

    def set(self, training: str, step: int, threads: int) -> None:
        """Sets the threads from this step on; removes entries of later steps."""
        self.entries = [entry for entry in self.entries if entry[0] != training or entry[1] < step]
        self.entries.append((training, step, threads))
        write_json(self.path, self.entries)

    def facts(self) -> dict[str, Any]:
        """For the receipt: the whole log, if the number changed."""
        return {"threads_by_step": self.entries} if len({threads for _, _, threads in self.entries}) > 1 else {}


def log_of(work: Work) -> ThreadLog:
    """The log of a training."""
    return ThreadLog(work.thread_log or work.checkpoints / "threads.json")


def training_name(work: Work, trial: int | None) -> str:
    """The name of a training in the log."""
    name = "last" if work.before is None else f"before-{work.before}"
    return name if trial is None else f"{name}, trial {trial}"


def first_threads(work: Work, name: str, processes: int = 1, nodes: int = 1, node: int = 0) -> int:
    """The initial number of threads: from the settings or the log; otherwise from the environment or the load, and then logged.

    Args:
        processes: processes of the training on this machine.
        nodes: machines of the training; with several, the load is ignored, as a node does not know that of the others.
    """
    if work.settings.threads is not None:
        return work.settings.threads
    log = log_of(work)
    if node == 0 and (logged := log.at(name, 0)) is not None:
        return logged
    threads = Threads("finetune", processes)
    choice = threads.choose() if nodes == 1 else threads.choose_for_idle()
    threads.report(choice)
    if node == 0:
        log.set(name, 0, choice.threads)
    return choice.threads


class AdjustThreads(TrainerCallback):  # type: ignore[misc]
    """Sets the threads of each step: from the log up to its end, then by the load.

    Several processes keep their initial number, as they would have to agree on another one.
    """

    def __init__(self, work: Work, name: str) -> None:
        is_alone = world_size() == 1
        self.name = name
        # launch.py chooses the number of several processes
        self.first = first_threads(work, name) if is_alone else work.settings.threads or explicit_threads() or 1
        self.log = log_of(work)
        self.is_fixed = work.settings.threads is not None or not is_alone or torch.cuda.is_available()
        self.threads = Threads("finetune")
        self.threads.use(self.first)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        explicit = explicit_threads()
        if self.is_fixed or self.log.is_replayed or explicit is None:
            return
        if self.log.at(self.name, state.global_step) != explicit:  # changed since the interruption
            self.log.set(self.name, state.global_step, explicit)

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.is_fixed:
            return
        step = state.global_step
        is_new = step > self.log.last_step(self.name) and not self.log.is_replayed
        if is_new and (choice := self.threads.proposed()) is not None:
            self.log.set(self.name, step, choice.threads)
            logger.info(f"finetune: {choice} from step {step + 1}")
        self.threads.use(self.log.at(self.name, step) or self.first)
