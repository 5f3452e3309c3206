"""A training that is killed at a step."""

from __future__ import annotations

from typing import Any

import pytest

from tasks.config import PipelineConfig
from tasks.finetune import stage
from tasks.finetune.loop.progress_callback import ProgressCallback

EARLY = {"method": "full", "max_steps": None, "epochs": 30.0, "learning_rate": 0.05, "early_stopping_patience": 3}
"""Settings that overfit at once."""


def kill_at(monkeypatch: pytest.MonkeyPatch, step: int, name: str, config: PipelineConfig) -> None:
    """Trains, and dies when `name` of that step is logged."""
    plain = ProgressCallback.on_log

    def on_log(self: ProgressCallback, args: Any, state: Any, control: Any, logs: Any = None, **more: Any) -> None:
        if state.global_step == step and name in logs:
            raise KeyboardInterrupt
        plain(self, args, state, control, logs, **more)

    with monkeypatch.context() as patch:
        patch.setattr(ProgressCallback, "on_log", on_log)
        with pytest.raises(KeyboardInterrupt):
            stage.run(config)
