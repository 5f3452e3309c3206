"""The number of torch threads: the number of free cores, chosen at the start and adjusted to the load at intervals.

The threads of one operation wait for each other. If another process uses a core, two threads on two cores are several times slower
than one (docs/decisions/0014-threads.md). An explicit number (`finetune.threads`, OMP_NUM_THREADS) is never changed.

    threads = Threads("evaluate")
    threads.follow(model)           # checks every 15 seconds, between two forward passes
"""

from __future__ import annotations

import logging
import math
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tasks.runtime.cores import Limits, Load, LoadMeter, read_limits

logger = logging.getLogger(__name__)

CHECK_EVERY_SECONDS = 15.0
SPARE = 0.25
"""The share of a core that others may use so that a thread on it still helps. Measured: at 0.15 it helps, at 0.3 it slows down."""

MAX_THREADS = 2**31 - 1
"""OpenMP's limit."""


@dataclass(frozen=True)
class Choice:
    threads: int
    why: str

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads != 1)} ({self.why})"


def explicit_threads() -> int | None:
    """The value of OMP_NUM_THREADS; None if it is not set, or is a value that OpenMP rejects."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    is_number = re.fullmatch("0*[1-9][0-9]{0,9}", first) is not None
    return int(first) if is_number and int(first) <= MAX_THREADS else None


def fitting_threads(limits: Limits, load: Load) -> int:
    """One thread per free core, at least one."""
    return max(1, min(limits.physical, math.floor(limits.free_cores(load) + SPARE)))


class Threads:
    """Chooses and sets torch's number of threads in this process.

    Args:
        stage: prefix of the messages.
        processes: the number of processes that share the machine.
        is_quiet: log no messages.
    """

    def __init__(self, stage: str, processes: int = 1, is_quiet: bool = False) -> None:
        self.stage, self.processes, self.is_quiet = stage, processes, is_quiet
        self.limits = read_limits()
        self.is_explicit = explicit_threads() is not None
        self.current = 0
        self._is_held = False
        self._meter = LoadMeter(self.limits)
        self._last_check, self._more_useful = time.monotonic(), 0

    def choose(self) -> Choice:
        """The number for this machine and its load; does not set it."""
        return self._for(Load(0.0) if self.is_explicit else self._meter.read())

    def choose_for_idle(self) -> Choice:
        """The number for this machine without load."""
        return self._for(Load(0.0))

    def _for(self, load: Load) -> Choice:
        if (explicit := explicit_threads()) is not None:
            return Choice(explicit, "OMP_NUM_THREADS")
        return Choice(max(1, fitting_threads(self.limits, load) // self.processes), _why(self.limits, load))

    def begin(self) -> Choice:
        """Chooses and sets the number. Logs it if other processes or a quota reduce it."""
        choice = self.choose()
        self.report(choice)
        self.use(choice.threads)
        return choice

    def report(self, choice: Choice) -> None:
        """Logs the choice if it has fewer threads than the machine has cores."""
        is_less = choice.threads < self.limits.physical // self.processes
        if is_less and not self.is_explicit and not self.is_quiet:
            logger.info(f"{self.stage}: {choice}")

    def follow(self, model: Any) -> None:
        """Calls `begin`, and checks the load before forward passes in inference (for training: finetune/thread_log.py)."""
        if model.device.type != "cpu":
            return
        if not self.current:
            self.begin()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.register_forward_pre_hook(lambda *_: self.adjust())

    @contextmanager
    def hold_one(self) -> Iterator[None]:
        """Uses one thread within the block, whatever the load: for work that is shared among processes."""
        import torch

        before = torch.get_num_threads()
        self._is_held = True
        torch.set_num_threads(1)
        try:
            yield
        finally:
            self._is_held = False
            torch.set_num_threads(before)

    def adjust(self) -> None:
        """Adjusts the number to the load; to be called often, in the thread that computes: OpenMP stores the number per thread."""
        choice = self.proposed()
        if choice is not None:
            self.use(choice.threads)
            if not self.is_quiet:
                logger.info(f"{self.stage}: {choice} now")

    def proposed(self) -> Choice | None:
        """A better number for the load since the last check; None if it is the current one, or between checks.

        Fewer threads are proposed at once, more threads after two checks in a row.
        """
        if self.is_explicit or self._is_held or time.monotonic() - self._last_check < CHECK_EVERY_SECONDS:
            return None
        self._last_check = time.monotonic()
        choice = self.choose()
        if choice.threads > self.current and not self._more_useful:
            self._more_useful = choice.threads
            return None
        chosen = min(choice.threads, self._more_useful) if self._more_useful else choice.threads
        self._more_useful = 0
        return Choice(chosen, choice.why) if chosen != self.current else None

    def use(self, count: int) -> None:
        """Sets torch's number of threads."""
        import torch

        self.current = count
        if torch.get_num_threads() != count:
            torch.set_num_threads(count)


def _why(limits: Limits, load: Load) -> str:
    others = f", of which other processes use {load.machine:.1f}" if load.machine >= 0.05 else ", otherwise idle"
    cores = f"{limits.physical} core{'s' * (limits.physical != 1)}{others}"
    if limits.quota is None:
        return cores
    used = f", of which {load.group:.1f} is used" if load.group >= 0.05 else ""
    return f"{cores}; CPU quota {limits.quota.cores:.2g}{used}"
