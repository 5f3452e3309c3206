"""The drift part of the summary: the dataset compared with the data of the round's champion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

MAX_LINES = 12
MAX_BINS = 3


@dataclass(frozen=True)
class Shift:
    """A measure at or above the threshold of a minor shift."""

    level: str
    """`minor` (PSI from 0.1) or `major` (from 0.25)."""
    family: str
    what: str
    psi: float
    js: float
    may_be_chance: bool
    """So few rows that it could be chance."""
    bins: list[tuple[str, float, float]]
    """The largest changes: bin, share before, share now."""


@dataclass(frozen=True)
class Drift:
    champion: int | None
    problem: str
    """Why it was not measured; empty if it was."""
    measures: int
    moved: list[Shift]
    """The largest shift first."""
    shares: dict[str, dict[str, float]]
    """Before and in the new batches: the shares of refused rows, and of duplicates."""
    training_rows: tuple[int, int]
    compared_rows: tuple[int, int]
    picture: str


def drift_of(report: Any, dataset: str | None) -> Drift | None:
    """The content of data/reports/drift.json; None if it is about another dataset, or the champion was trained on this one."""
    if report is None or report["dataset"] != dataset or report["state"] == "same data":
        return None
    measured = report.get("measured")
    if measured is None:
        return Drift(report["champion"], report.get("problem", ""), 0, [], {}, (0, 0), (0, 0), "")
    return Drift(
        champion=report["champion"],
        problem="",
        measures=len(measured["drift"]),
        moved=[_shift(entry) for entry in measured["drift"] if entry["level"] != "steady"],
        shares=measured["shares"],
        training_rows=tuple(measured["training_rows"]),
        compared_rows=tuple(measured["compared_rows"]),
        picture="data/reports/drift.svg",
    )


def _shift(entry: dict[str, Any]) -> Shift:
    bins = [(name, entry["before"][name], entry["after"][name]) for name in entry["moved"][:MAX_BINS]]
    facts = {name: entry[name] for name in ("level", "family", "what", "psi", "js", "may_be_chance")}
    return Shift(**facts, bins=bins)


def drift_title(drift: Drift) -> str:
    return f"Drift from the data of version {drift.champion}" if drift.champion else "Drift of the data"


def drift_notes(drift: Drift) -> list[str]:
    """Sentences: what was compared, the result, and how to read the numbers."""
    if drift.problem:
        return [f"Not measured: {drift.problem}"]
    if drift.champion is None:
        return ["No champion served before: there was nothing to compare the data with."]
    if not drift.measures:
        return ["No family is in both versions: there is nothing to compare."]
    steady = drift.measures - len(drift.moved)
    notes = [f"{steady} of {drift.measures} measures are steady. PSI: from 0.1 a minor shift, from 0.25 a major one."]
    if any(shift.may_be_chance for shift in drift.moved):
        notes.append("few rows: an unchanged population could give this number by chance.")
    if len(drift.moved) > MAX_LINES:
        notes.append(f"{len(drift.moved) - MAX_LINES} more are in data/reports/drift.json.")
    for name, shares in drift.shares.items():
        notes.append(f"{name}: {shares['refused']:.1%} of rows refused, {shares['duplicates']:.1%} duplicates")
    if drift.compared_rows != drift.training_rows:
        both = zip(drift.compared_rows, drift.training_rows, strict=True)
        sizes = " and ".join(f"{some:,} of {rows:,}" for some, rows in both)
        notes.append(f"A sample: {sizes} training rows, the first by hash of the row id.")
    return notes


def drift_rows(drift: Drift) -> list[list[str]]:
    """Level, family, measure, PSI, JS, and the bins with the largest changes: one line per shift."""
    return [
        [
            f"{shift.level}, few rows" if shift.may_be_chance else shift.level,
            shift.family,
            shift.what,
            f"{shift.psi:.3f}",
            f"{shift.js:.3f}",
            " · ".join(f"{_shortened(name)} {before:.1%} → {now:.1%}" for name, before, now in shift.bins),
        ]
        for shift in drift.moved[:MAX_LINES]
    ]


def _shortened(name: str) -> str:
    line = " ".join(name.split())
    return line if len(line) <= 24 else f"{line[:23]}…"
