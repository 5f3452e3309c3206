"""The table of objectives and their modules."""

from __future__ import annotations

import importlib
from typing import Any

from tasks.finetune.work import PreparedTraining, Work

MODULES = {
    "sft": "sft",
    "pretrain": "sft",
    "distill": "distill",
    "classify": "classify",
    "dpo": "preferences",
    "orpo": "preferences",
    "kto": "preferences",
    "reward": "reward_model",
    "grpo": "grpo",
}
"""Objective → module of this folder with its `prepare(work)`. Each module imports only what it needs."""


def prepare(work: Work) -> PreparedTraining:
    """Prepares the training of `work`.

    Raises:
        DataError: no rows for this objective.
        TrainingError: a setting does not fit the model.
    """
    module: Any = importlib.import_module(f"tasks.finetune.objectives.{MODULES[work.settings.objective]}")
    prepared: PreparedTraining = module.prepare(work)
    return prepared
