"""The page of an explanation: one file without scripts, in which every text of a row is escaped."""

from __future__ import annotations

from pathlib import Path

from flows.report.explanation.picture import bars
from flows.report.run_report import page as run_report
from tasks.explain.explanation import Attribution, Explanation

FOLDER = Path(__file__).parent
MATRIX_PARTS, MATRIX_PIECES = 12, 40


def render(explanation: Explanation) -> str:
    style = "\n".join((folder / "page.css").read_text(encoding="utf-8") for folder in (run_report.FOLDER, FOLDER))
    details = [
        {
            "bars": bars(attribution),
            "top": [span.text for span in attribution.top(MATRIX_PARTS)],
            "matrix": _matrix(attribution),
            "largest": max((abs(span.value) for span in attribution.top(1) if span.value), default=1.0),
        }
        for attribution in explanation.attributions
    ]
    return run_report.page_template(FOLDER).render(
        **run_report.clean(explanation),
        details=[{**run_report.clean(each), "bars": each["bars"]} for each in details],
        pieces=MATRIX_PIECES,
        style=style,
    )


def _matrix(attribution: Attribution) -> list[tuple[str, list[tuple[float, float]]]]:
    """For the parts with the largest shares: their share of each piece of the answer, and that relative to the largest."""
    spans = [span for span in attribution.top(MATRIX_PARTS) if span.by_piece]
    largest = max((abs(value) for span in spans for value in span.by_piece[:MATRIX_PIECES]), default=0.0) or 1.0
    return [(span.text, [(value, value / largest) for value in span.by_piece[:MATRIX_PIECES]]) for span in spans]
