"""The input of one training, and the prepared training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.base.pin import BaseRecord
from tasks.base.precision import Precision
from tasks.finetune.settings import TrainingSettings


@dataclass(frozen=True)
class Work:
    """One training: its settings, base, start weights and folders."""

    settings: TrainingSettings
    record: BaseRecord
    precision: Precision
    checkpoints: Path
    start: Path | None = None
    """Folder of the trained weights that it starts from; None: the base."""
    reward_model: Path | None = None
    """Folder of the reward model of an earlier training, if any."""
    before: int | None = None
    """Its number under `finetune.before`, from 1; None: it is the last training."""
    thread_log: Path | None = None
    """File of the thread log that all trainings of the stage share (thread_log.py); None: a log of its own."""


@dataclass(frozen=True)
class PreparedTraining:
    """A training that is ready to start."""

    tokens_per_epoch: int
    steps_per_epoch: int
    """Optimiser steps."""
    total_steps: int
    make_trainer: Callable[[list[Any]], Any]
    """Callbacks → the transformers Trainer with its model. Called once, after all seeds are set."""
    row_ids: Callable[[Any], list[str]]
    """Trainer → the row ids of the current global batch."""
    epoch_flops: Callable[[Any, float], float] | None = None
    """Model, share of the tokens that are computed → FLOPs of an epoch (mfu.py); None where they are not counted."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the receipt: reproducible counts of the training data."""
