"""What the summary says of drift: the dataset against the data of the champion that the round began with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MOST_LINES = 12
MOST_BINS = 3


@dataclass(frozen=True)
class Moved:
    """A measure at or above the threshold of a minor shift."""

    level: str
    """`minor` (PSI from 0.1) or `major` (from 0.25)."""
    family: str
    what: str
    psi: float
    js: float
    may_be_chance: bool
    """So few rows that an unchanged population could give it."""
    bins: list[tuple[str, float, float]]
    """What moved most: bin, share before, share now."""


@dataclass(frozen=True)
class Drift:
    champion: int | None
    problem: str
    """Why it was not measured, or empty."""
    measures: int
    moved: list[Moved]
    """The furthest first."""
    shares: dict[str, dict[str, float]]
    """Before and in the new batches: shares refused, and dropped as duplicates."""
    training_rows: tuple[int, int]
    compared_rows: tuple[int, int]
    picture: str


def drift_of(report: Any, dataset: str | None) -> Drift | None:
    """What data/reports/drift.json tells; None where it is about another dataset, or the champion was trained on this one."""
    if report is None or report["dataset"] != dataset or report["state"] == "same data":
        return None
    found = report.get("measured")
    if found is None:
        return Drift(report["champion"], report.get("problem", ""), 0, [], {}, (0, 0), (0, 0), "")
    before, now = found["training_rows"]
    return Drift(
        champion=report["champion"],
        problem="",
        measures=len(found["drift"]),
        moved=[_moved(entry) for entry in found["drift"] if entry["level"] != "steady"],
        shares=found["shares"],
        training_rows=(before, now),
        compared_rows=tuple(found["compared_rows"]),
        picture="data/reports/drift.svg",
    )


def _moved(entry: dict[str, Any]) -> Moved:
    bins = [(each, entry["before"][each], entry["after"][each]) for each in entry["moved"][:MOST_BINS]]
    facts = {name: entry[name] for name in ("level", "family", "what", "psi", "js", "may_be_chance")}
    return Moved(**facts, bins=bins)


def drift_title(drift: Drift) -> str:
    return f"Drift from the data of version {drift.champion}" if drift.champion else "Drift of the data"


def drift_notes(drift: Drift) -> list[str]:
    """Sentences: what was compared, what came of it, and what to know of the numbers."""
    if drift.problem:
        return [f"Not measured: {drift.problem}"]
    if drift.champion is None:
        return ["No champion served before: there was nothing to compare the data with."]
    if not drift.measures:
        return ["No family is in both versions: there is nothing to compare."]
    steady = drift.measures - len(drift.moved)
    notes = [f"{steady} of {drift.measures} measures are steady. PSI: from 0.1 a minor shift, from 0.25 a major one."]
    if any(moved.may_be_chance for moved in drift.moved):
        notes.append("few rows: an unchanged population could give this number by chance.")
    if len(drift.moved) > MOST_LINES:
        notes.append(f"{len(drift.moved) - MOST_LINES} more are in data/reports/drift.json.")
    for name, shares in drift.shares.items():
        notes.append(f"{name}: {shares['refused']:.1%} of rows refused, {shares['duplicates']:.1%} duplicates")
    if drift.compared_rows != drift.training_rows:
        told = " and ".join(
            f"{some:,} of {rows:,}" for some, rows in zip(drift.compared_rows, drift.training_rows, strict=True)
        )
        notes.append(f"A sample: {told} training rows, those whose ids rank first.")
    return notes


def drift_rows(drift: Drift) -> list[list[str]]:
    """Level, family, what, PSI, JS, and the bins that moved most: a line a measure that moved."""
    return [
        [
            f"{moved.level}, few rows" if moved.may_be_chance else moved.level,
            moved.family,
            moved.what,
            f"{moved.psi:.3f}",
            f"{moved.js:.3f}",
            " · ".join(f"{_shown(name)} {before:.1%} → {now:.1%}" for name, before, now in moved.bins),
        ]
        for moved in drift.moved[:MOST_LINES]
    ]


def _shown(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= 24 else f"{line[:23]}…"
