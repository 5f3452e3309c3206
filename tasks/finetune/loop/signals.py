"""SIGTERM and Ctrl-C while training: one checkpoint more, then a clean end, so that the next run goes on from that very step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import Any

from transformers import TrainerCallback

from tasks.errors import StropError
from tasks.finetune.process_group import max_over_ranks
from tasks.runtime.progress import Progress

SAME_SECONDS = 3.0
"""One wish to stop may come as several signals: Ctrl-C goes to all processes of a terminal, and the command that ends them sends
SIGTERM besides, to each of several processes and to the one that passes it on to them."""


class Interrupted(StropError):
    """Somebody stopped the training; nothing is wrong."""

    def __init__(self, step: int | None, number: int) -> None:
        self.exit_code = 128 + number
        self.step, self.number = step, number
        if step is None:
            super().__init__("finetune: interrupted", fix="Run again: it goes on from the last checkpoint")
            return
        super().__init__(
            f"finetune: interrupted at step {step}; a checkpoint is kept", fix="Run again: it goes on there"
        )


class StopOnSignal(TrainerCallback):  # type: ignore[misc]
    """Ends a training at the end of the step in which a signal came. The same signal once more, not at the same moment, ends it at
    once."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.number: int | None = None
        self._came: dict[int, float] = {}
        """Signals that came, and when each came first."""
        self.has_stopped = False
        """Was it a signal that ended the training? It may come when the training has just ended by itself."""

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Within the block signals come here (in a process's main thread: others get none)."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def require_uninterrupted(self, state: Any) -> None:
        """Raises Interrupted if a signal ended the training."""
        if self.number is not None and self.has_stopped:
            self.progress.event(step=state.global_step, interrupted=True)
            raise Interrupted(state.global_step, self.number)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        number = max_over_ranks(
            self.number or 0
        )  # a signal to one of several processes ends all of them, at the same step
        if number and not control.should_training_stop:
            self.number = number
            self.has_stopped = control.should_save = control.should_training_stop = True

    def _stop(self, number: int, frame: Any) -> None:
        now = time.monotonic()
        if now - self._came.setdefault(number, now) > SAME_SECONDS:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        if self.number is not None:
            return
        self.number = number
        with contextlib.suppress(OSError):  # a print here could come into the middle of another
            os.write(2, "finetune: ends its step, saves a checkpoint, stops … (once more: at once)\n".encode())
