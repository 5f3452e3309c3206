"""How many threads torch computes with: as many as there are free cores, chosen at the start and looked at again now and then.

Threads of one operation wait for each other. Where another process holds a core, two threads on two cores are several times slower
than one (docs/decisions/0014-threads.md). An explicit number (`finetune.threads`, OMP_NUM_THREADS) always holds.

    threads = Threads("evaluate")
    threads.follow(model)           # a look every 15 seconds, between two of its forward passes
"""

from __future__ import annotations

import math
import os
import re
import time
from dataclasses import dataclass
from typing import Any

from tasks.runtime.cores import Limits, Load, LoadMeter, read_limits
from tasks.runtime.progress import say

LOOK_EVERY_SECONDS = 15.0
SPARE = 0.25
"""Of a core: what others may use of it so that a thread there still pays. Measured: at 0.15 it does, at 0.3 it costs."""

MOST_THREADS = 2**31 - 1
"""That OpenMP can count."""


@dataclass(frozen=True)
class Choice:
    threads: int
    why: str

    def __str__(self) -> str:
        return f"{self.threads} thread{'s' * (self.threads != 1)} ({self.why})"


def explicit_threads() -> int | None:
    """What OMP_NUM_THREADS says; None where it says nothing, or what OpenMP takes for nonsense."""
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    is_number = re.fullmatch("0*[1-9][0-9]{0,9}", first) is not None
    return int(first) if is_number and int(first) <= MOST_THREADS else None


def fitting_threads(limits: Limits, load: Load) -> int:
    """A thread for each free core, at least one."""
    return max(1, min(limits.physical, math.floor(limits.free_cores(load) + SPARE)))


class Threads:
    """torch's threads in a process that computes.

    Args:
        stage: whose lines tell of a change.
        processes: so many share the machine.
        is_quiet: nothing is printed (an answer is).
    """

    def __init__(self, stage: str, processes: int = 1, is_quiet: bool = False) -> None:
        self.stage, self.processes, self.is_quiet = stage, processes, is_quiet
        self.limits = read_limits()
        self.is_explicit = explicit_threads() is not None
        self.current = 0
        self._meter = LoadMeter(self.limits)
        self._looked, self._more = time.monotonic(), 0

    def choose(self) -> Choice:
        """The number for this machine and its load; nothing is changed."""
        return self._for(self._meter.read()) if not self.is_explicit else self._for(Load(0.0))

    def choose_for_idle(self) -> Choice:
        """The number for this machine, whatever its load."""
        return self._for(Load(0.0))

    def _for(self, load: Load) -> Choice:
        if (explicit := explicit_threads()) is not None:
            return Choice(explicit, "OMP_NUM_THREADS")
        return Choice(max(1, fitting_threads(self.limits, load) // self.processes), _why(self.limits, load))

    def begin(self) -> Choice:
        """Chooses, and lets torch take it. Printed where others or a quota leave less than there is."""
        choice = self.choose()
        self.tell(choice)
        self.use(choice.threads)
        return choice

    def tell(self, choice: Choice) -> None:
        """Prints a choice of fewer threads than the machine has cores for."""
        is_less = choice.threads < self.limits.physical // self.processes
        if is_less and not self.is_explicit and not self.is_quiet:
            say(f"{self.stage}: {choice}")

    def follow(self, model: Any) -> None:
        """Begins, and looks at the load before each pass through a model that answers (one that trains: finetune/thread_log.py)."""
        if model.device.type != "cpu":
            return
        if not self.current:
            self.begin()
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        inner.register_forward_pre_hook(lambda *_: self.look())

    def look(self) -> None:
        """Follows the load: to be called often. In the thread that computes: OpenMP keeps the number a thread."""
        choice = self.proposed()
        if choice is not None:
            self.use(choice.threads)
            if not self.is_quiet:
                say(f"{self.stage}: {choice} now")

    def proposed(self) -> Choice | None:
        """Another number than the current one, where the load since the last look calls for it; None between looks.

        Fewer at once; more where two looks in turn call for it.
        """
        if self.is_explicit or time.monotonic() - self._looked < LOOK_EVERY_SECONDS:
            return None
        self._looked = time.monotonic()
        choice = self.choose()
        if choice.threads > self.current and not self._more:
            self._more = choice.threads
            return None
        chosen = min(choice.threads, self._more) if self._more else choice.threads
        self._more = 0
        return Choice(chosen, choice.why) if chosen != self.current else None

    def use(self, count: int) -> None:
        """Lets torch compute with so many threads from now on."""
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
