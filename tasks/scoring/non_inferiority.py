"""The rule by which a model is "not worse" than another on the same rows, for the gate and for the engine that serves. Pure."""

from __future__ import annotations

import zlib

from tasks.scoring.statistics import Interval


def is_not_worse(interval: Interval, margin: float) -> bool:
    """Whether the paired interval of (candidate - reference) shows that the candidate is worse by less than the margin."""
    return interval.low > -margin


def is_worse(interval: Interval, margin: float) -> bool:
    """Whether the interval shows that the candidate is worse by more than the margin. Neither is shown by too few rows."""
    return interval.high < -margin


def stream_seed(seed: int, name: str) -> list[int]:
    """A random stream per comparison, so that a new family does not change the numbers of the others."""
    return [seed, zlib.crc32(name.encode("utf-8"))]
