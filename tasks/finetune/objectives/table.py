"""What each objective trains with: the one table of them."""

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
"""Objective → the module of this folder whose `prepare(work)` makes it ready. Each imports only what it needs."""


def prepare(work: Work) -> PreparedTraining:
    """The training of `work`, ready to begin.

    Raises:
        DataError: there are no rows that teach this objective.
        TrainingError: a setting does not fit the model.
    """
    module: Any = importlib.import_module(f"tasks.finetune.objectives.{MODULES[work.settings.objective]}")
    prepared: PreparedTraining = module.prepare(work)
    return prepared
