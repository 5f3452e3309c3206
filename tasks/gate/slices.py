"""The check `slices`: parts of a family, such as its Chinese rows, in which the candidate must not be shown to be worse."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from tasks.gate.check import Check, GateInput
from tasks.gate.comparisons import mean_difference, shown_difference
from tasks.gate.pairing import PairedScores
from tasks.gate.settings import SliceName
from tasks.scoring.superiority import harm_p, holm

Values = NDArray[np.str_]
LONGEST_VALUE = 40
"""Characters of a value in the name of a check."""


def check_slices(gate: GateInput) -> Iterator[Check]:
    """In no slice of a family is the candidate shown to be worse by more than the family's margin.

    Many slices are tested, so their p-values are adjusted (Holm): the probability that any slice of an equal model blocks is at
    most 1 - confidence. A slice is one value of a column in one family; a column with a single value has no slices.
    """
    slices = list(_slices(gate))
    level = 1 - gate.settings.confidence
    p_values = [
        harm_p(
            rows.reference,
            rows.candidate,
            margin=gate.margin(family),
            level=level / len(slices),
            samples=gate.settings.bootstrap_samples,
            seed=gate.seed(name),
        )
        for name, family, rows in slices
    ]
    for (name, family, rows), p in zip(slices, holm(p_values), strict=True):
        interval, difference = gate.difference(rows, name), mean_difference(rows)
        result = f"worse by more than {gate.margin(family):.3f}" if p <= level else "not shown to be worse"
        detail = f"{shown_difference(difference, interval)}, {result} (p {p:.2g}, adjusted for {len(slices)} slices)"
        yield Check(name, family, p > level, difference, 0.0 - gate.margin(family), interval, len(rows), detail)


def _slices(gate: GateInput) -> Iterator[tuple[str, str, PairedScores]]:
    """(name, family, rows) of every slice with enough rows."""
    for family in sorted(gate.eligible):
        rows = gate.scores.of({family})
        for column in gate.settings.slices:
            values = VALUES[column](gate, rows)
            names, counts = np.unique(values, return_counts=True)
            for value, count in zip(names.tolist(), counts.tolist(), strict=True):
                if value and len(names) > 1 and count >= gate.settings.min_rows:
                    yield (
                        f"slices/{family}/{column}={' '.join(value.split())[:LONGEST_VALUE]}",
                        family,
                        rows.where(values == value),
                    )


def _column(name: str) -> Callable[[GateInput, PairedScores], Values]:
    return lambda _, rows: rows.column(name)


def _freshness(gate: GateInput, rows: PairedScores) -> Values:
    """Whether the row existed when the champion was trained; "" without a champion."""
    if gate.round_.champion is None:
        return np.full(len(rows), "")
    is_established = np.isin(rows.batch, list(gate.round_.champion.batches))
    return np.where(is_established, "established", "new")


def _lengths(_: GateInput, rows: PairedScores) -> Values:
    """Whether the target is longer than the median target of the family, in characters."""
    lengths = np.array([len(target) for target in rows.column("target").tolist()])
    return np.where(lengths > np.median(lengths), "long", "short")


VALUES: dict[SliceName, Callable[[GateInput, PairedScores], Values]] = {
    "language": _column("language"),
    "kind": _column("kind"),
    "source": _column("source"),
    "label": _column("target"),  # only labels are so common that they make a slice
    "freshness": _freshness,
    "length": _lengths,
}
"""Column of `gate.slices` → its value in each row; rows with "" are in no slice."""
