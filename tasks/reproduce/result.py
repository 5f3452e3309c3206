"""What a reproduction found: per output, per stage, and as a whole."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.runtime.plurals import count_of

State = Literal["identical", "equal", "not compared", "differs"]
"""`equal`: the same content in other bytes, or apart from times; `not compared`: the version does not record its hash."""


@dataclass(frozen=True)
class OutputResult:
    path: str
    state: State
    detail: str = ""
    """By how much it differs, or why it was not compared."""
    numbers: dict[str, Any] = field(default_factory=dict)
    """The same for programs."""


@dataclass(frozen=True)
class StageResult:
    name: str
    seconds: float
    outputs: tuple[OutputResult, ...]

    @property
    def differences(self) -> list[OutputResult]:
        return [output for output in self.outputs if output.state == "differs"]

    @property
    def differs(self) -> bool:
        return bool(self.differences)


@dataclass(frozen=True)
class EnvironmentFacts:
    kind: Literal["lock", "current"]
    python: str
    folder: str
    is_cached: bool
    seconds: float
    differences: tuple[str, ...]
    """Python and packages that are not those of the receipt."""


@dataclass(frozen=True)
class Reproduction:
    model: str
    version: int
    commit: str
    environment: EnvironmentFacts
    stages: tuple[StageResult, ...]
    machine: tuple[str, ...]
    """How this machine differs from the one that the receipt records."""
    notes: tuple[str, ...]
    """What the version does not record, and what to know about the result."""
    outcome: str
    """The verdict of this reproduction; "" if the version has no gate."""
    recorded_outcome: str
    restored: int
    """Files that DVC's cache had lost, and that were stored in it."""
    clone: Path | None
    """The folder that was kept."""
    seconds: float

    @property
    def first_difference(self) -> StageResult | None:
        """The first stage that differs: those after it read what it wrote."""
        return next((stage for stage in self.stages if stage.differs), None)

    @property
    def is_identical(self) -> bool:
        return self.first_difference is None

    @property
    def conclusion(self) -> str:
        """The result in one line."""
        first = self.first_difference
        if first is not None:
            names = ", ".join(output.path for output in first.differences)
            return f"differs first in stage {first.name}: {names}{self._verdict()}"
        of_others = [output for stage in self.stages for output in stage.outputs if output.state != "identical"]
        but = "; ".join(f"{output.path}: {output.detail}" for output in of_others)
        return f"identical: every output of {count_of(len(self.stages), 'stage')}" + (f" ({but})" if but else "")

    def _verdict(self) -> str:
        if not self.outcome or not self.recorded_outcome:
            return ""
        if self.outcome == self.recorded_outcome:
            return f"; the verdict is the same ({self.outcome})"
        return f"; the verdict is {self.outcome}, the recorded one {self.recorded_outcome}"

    def as_dict(self) -> dict[str, Any]:
        first = self.first_difference
        computed = {
            "identical": self.is_identical,
            "first_difference": first.name if first else None,
            "conclusion": self.conclusion,
            "clone": str(self.clone) if self.clone else None,
        }
        values: dict[str, Any] = _without_nan({**asdict(self), **computed})
        return values


def _without_nan(value: Any) -> Any:
    """JSON has no NaN and no infinity: they become text."""
    if isinstance(value, dict):
        return {key: _without_nan(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
