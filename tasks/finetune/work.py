"""One training: what it is given, and what is ready when it can begin."""

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
    """One training: what is trained, how, and from where."""

    settings: TrainingSettings
    record: BaseRecord
    precision: Precision
    checkpoints: Path
    start: Path | None = None
    """A trained folder that it goes on from; None: the base."""
    reward_model: Path | None = None
    """The folder of the reward model that was trained before, if any."""
    before: int | None = None
    """Its number among the trainings that come before the last, from 1; None: it is the last."""
    thread_log: Path | None = None
    """The file in which all trainings of the stage log their threads (thread_log.py); None: one of its own."""


@dataclass(frozen=True)
class Prepared:
    """A training that can begin."""

    tokens_per_epoch: int
    steps_per_epoch: int
    """Optimiser steps."""
    total_steps: int
    make_trainer: Callable[[list[Any]], Any]
    """Callbacks → the transformers Trainer, its model in it. Called once, with all seeds set."""
    row_ids: Callable[[Any], list[str]]
    """Trainer → the ids of the rows of the global batch at hand."""
    epoch_flops: Callable[[Any, float], float] | None = None
    """Model, share of the tokens that are computed → the operations that an epoch needs (mfu.py); None where they are not
    counted."""
    facts: dict[str, Any] = field(default_factory=dict)
    """For the receipt: what it is trained on, in numbers that do not differ from run to run."""
