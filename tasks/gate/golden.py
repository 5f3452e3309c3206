"""The check `golden`: every golden row is answered well enough."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.gate.check import Check, GateInput

SHOWN = 3
"""Row ids in the result."""


def check_golden(gate: GateInput) -> Iterator[Check]:
    """The score of every row of a `use: golden` source is at least `golden_score`, whatever the other rows' scores."""
    bound = gate.settings.golden_score
    if bound is None:
        return
    rows = gate.scores.where(gate.scores.column("use") == "golden")
    if not len(rows):
        detail = "no test row is from a source with `use: golden`"
        yield Check("golden", None, False, None, bound, None, 0, detail)
        return
    failed = rows.column("row_id")[rows.candidate < bound].tolist()
    detail = f"{len(rows) - len(failed)} of {len(rows)} golden rows score at least {bound:.3f}"
    if failed:
        detail += f"; below it: {', '.join(failed[:SHOWN])}{', ...' if len(failed) > SHOWN else ''}"
    yield Check("golden", None, not failed, float(rows.candidate.min()), bound, None, len(rows), detail)
