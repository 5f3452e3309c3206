"""An explanation as a short table for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Column, Table
from rich.text import Text

from flows.report.explanation.picture import shortened
from tasks.explain.explanation import Attribution, Explanation
from tasks.runtime.console import table_of

LINES, COLUMNS = 10, 40


def explanation_page(explanation: Explanation) -> RenderableType:
    """The output, and of each attribution the parts with the largest shares."""
    page: list[RenderableType] = [Text.assemble((explanation.model, "bold"), f" · {explanation.subject}")]
    page.append(Text.assemble(("output  ", "dim"), shortened(explanation.output, 3 * COLUMNS) or "(nothing)"))
    if explanation.target:
        page.append(Text.assemble(("target  ", "dim"), shortened(explanation.target, 3 * COLUMNS)))
    page += [Text(note, style="yellow") for note in explanation.notes]
    for attribution in explanation.attributions:
        page += [Text(f"\n{attribution.title}", style="bold cyan"), _table(attribution)]
        page.append(Text(" · ".join(f"{name} {value}" for name, value in attribution.facts.items()), style="dim"))
        if attribution.warning:
            page.append(Text(attribution.warning, style="yellow"))
    return Group(*page)


def _table(attribution: Attribution) -> Table:
    table = table_of(Column("share", justify="right", no_wrap=True), Column("part", overflow="fold"))
    for span in attribution.top(LINES):
        colour = "blue" if (span.value or 0.0) > 0 else "red"
        table.add_row(Text(f"{span.value:+.3f}", style=colour), Text(shortened(span.text, COLUMNS)))
    return table
