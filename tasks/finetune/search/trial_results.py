"""How the trials of a search ended: a file each, written when a trial is finished. Nothing else is kept of a search."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.runtime.files import read_json, write_json

OUTCOME = "trial.json"


@dataclass(frozen=True)
class Outcome:
    """What a finished trial tried, and how it ended."""

    number: int
    parameters: dict[str, Any]
    state: Literal["complete", "stopped", "failed", "repeated"]
    """`stopped`: by the pruner. `failed`: the training could not go on. `repeated`: an earlier one tried the very same values."""
    value: float | None = None
    """Validation loss of the weights that it came to; None unless it is complete or repeated."""
    valid_losses: dict[str, float] = field(default_factory=dict)
    """By step."""
    told: str | None = None
    """Why it failed."""
    same_as: int | None = None
    """The number of the trial that tried the same."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Those of its training."""
    model: str | None = None
    """Digest of the model that it saved; None where it saved none."""


def read_outcomes(folder: Path, until: int) -> list[Outcome]:
    """Of the trials before number `until`, as far as they are finished, in order."""
    found = []
    for number in range(until):
        path = folder / f"trial-{number}" / OUTCOME
        if not path.is_file():
            break
        found.append(Outcome(**read_json(path)))
    return found


def write_outcome(folder: Path, outcome: Outcome) -> None:
    write_json(folder / f"trial-{outcome.number}" / OUTCOME, asdict(outcome))


def best_of(outcomes: list[Outcome]) -> Outcome | None:
    """The first of those with the least validation loss."""
    complete = [each for each in outcomes if each.state == "complete" and each.value is not None]
    return min(complete, key=lambda each: each.value or 0.0, default=None)
