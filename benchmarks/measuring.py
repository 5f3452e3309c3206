"""Seconds and peak memory of a command, its child processes included."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil


def run_measured(
    command: Sequence[str], cwd: Path | None = None, env: Mapping[str, str] | None = None, every_seconds: float = 0.1
) -> tuple[float, float]:
    """Runs a command; its seconds, and the peak memory of it and its children together, in MB, as sampled."""
    began = time.perf_counter()
    child = subprocess.Popen(command, cwd=cwd, env=env, stdout=subprocess.DEVNULL)
    process, peak = psutil.Process(child.pid), 0
    while True:
        peak = max(peak, _bytes_of(process))
        try:
            code = child.wait(every_seconds)
            break
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - began
    if code:
        raise SystemExit(f"failed: {' '.join(command)}")
    return seconds, peak / 1e6


def _bytes_of(process: psutil.Process) -> int:
    total = 0
    try:
        family = [process, *process.children(recursive=True)]
    except psutil.Error:
        return 0
    for each in family:
        try:
            total += each.memory_info().rss
        except psutil.Error:  # it has ended meanwhile
            continue
    return total
