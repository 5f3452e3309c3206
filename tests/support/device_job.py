"""A job for a process of a device that loads nothing: it writes the device's number as each row's tokens."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from tasks.inference.worker_processes import Emit, Take


@dataclass(frozen=True)
class ToyJob:
    meeting: str
    """A folder, in which the processes of all devices wait for each other at their first row."""
    devices: int = 1
    killed: str = ""
    """The device whose process is killed at its second row."""

    def __call__(self, device: str, take: Take, emit: Emit) -> None:
        number = int(device.removeprefix("cuda:"))
        rows = 0
        while (index := take()) is not None:
            rows += 1
            if rows == 1:
                self._meet(device)
            if device == self.killed and rows == 2:
                os.kill(os.getpid(), 9)
            emit(index, [number, os.getpid()])

    def _meet(self, device: str) -> None:
        (Path(self.meeting) / device).touch()
        deadline = time.monotonic() + 30
        while len(list(Path(self.meeting).iterdir())) < self.devices and time.monotonic() < deadline:
            time.sleep(0.01)
