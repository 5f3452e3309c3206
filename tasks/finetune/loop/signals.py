"""SIGTERM and Ctrl-C during training: saves a checkpoint and exits cleanly, so that the next run resumes from the same step."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from transformers import TrainerCallback

from tasks.errors import StropError
from tasks.finetune.process_group import max_over_ranks
from tasks.runtime.logs.handlers import write_from_signal_handler
from tasks.runtime.progress import Progress

logger = logging.getLogger(__name__)

SAME_SECONDS = 3.0
"""Repeated signals within this time count as one request: a terminal sends Ctrl-C to all processes, and the command that ends them
also sends SIGTERM, both to the workers and to the process that forwards it to them."""


@contextlib.contextmanager
def handling_signals(handle: Callable[[int, Any], None]) -> Iterator[None]:
    """Calls `handle` for SIGTERM and Ctrl-C within the block (in the main thread; other threads receive none)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Interrupted(StropError):
    """The training was stopped by a signal; nothing is wrong."""

    def __init__(self, step: int | None, number: int) -> None:
        self.exit_code = 128 + number
        self.step, self.number = step, number
        if step is None:
            super().__init__("finetune: interrupted", fix="Run again: training resumes from the last checkpoint")
            return
        super().__init__(
            f"finetune: interrupted at step {step}; a checkpoint is saved", fix="Run again: training resumes there"
        )


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Stops a training at the end of the step in which a signal arrives. A later repetition of the signal ends the process
    immediately."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.number: int | None = None
        self._first_times: dict[int, float] = {}
        """Signal number → time of its first arrival."""
        self.has_stopped = False
        """Did a signal end the training? It may also arrive after the training has ended by itself."""

    def require_uninterrupted(self, state: Any) -> None:
        """Raises Interrupted if a signal ended the training."""
        if self.number is not None and self.has_stopped:
            self.progress.event(step=state.global_step, interrupted=True)
            raise Interrupted(state.global_step, self.number)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        number = max_over_ranks(self.number or 0)  # a signal to one process stops all of them, at the same step
        if number and not control.should_training_stop:
            self.number = number
            self.has_stopped = control.should_save = control.should_training_stop = True

    def request_stop(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._first_times.setdefault(number, now) > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self.number is not None:
            return
        self.number = number
        write_from_signal_handler(
            logger, "finetune: stopping after this step, with a checkpoint … (signal again: immediately)"
        )
