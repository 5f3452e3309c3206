"""The outcomes of a search's trials: one file each, written when a trial is finished. A search has no other state."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.runtime.files import read_json, write_json

OUTCOME = "trial.json"


@dataclass(frozen=True)
class Outcome:
    """The parameters and the result of a finished trial."""

    number: int
    parameters: dict[str, Any]
    state: Literal["complete", "stopped", "failed", "repeated"]
    """`stopped`: by the pruner. `failed`: the training raised an error. `repeated`: an earlier trial had the same values."""
    value: float | None = None
    """Validation loss of the final weights; None unless complete or repeated."""
    valid_losses: dict[str, float] = field(default_factory=dict)
    """By step."""
    failure: str | None = None
    """Why it failed; `told` in the file."""
    same_as: int | None = None
    """The number of the earlier trial with the same values."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The report of its training."""
    model: str | None = None
    """Digest of its saved model; None without one."""


def read_outcomes(folder: Path, until: int) -> list[Outcome]:
    """The outcomes of the trials before number `until`, in order, up to the first unfinished one."""
    outcomes = []
    for number in range(until):
        path = folder / f"trial-{number}" / OUTCOME
        if not path.is_file():
            break
        entry = read_json(path)
        outcomes.append(Outcome(failure=entry.pop("told"), **entry))
    return outcomes


def write_outcome(folder: Path, outcome: Outcome) -> None:
    entry = asdict(outcome)
    entry["told"] = entry.pop("failure")
    write_json(folder / f"trial-{outcome.number}" / OUTCOME, entry)


def best_of(outcomes: list[Outcome]) -> Outcome | None:
    """The first outcome with the lowest validation loss."""
    complete = [outcome for outcome in outcomes if outcome.state == "complete" and outcome.value is not None]
    return min(complete, key=lambda outcome: outcome.value or 0.0, default=None)
