"""A comparison of two versions for the terminal (rich): counts by family, what differs, and answers side by side."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from flows.report.measure_rows import further_rows, probe_rows
from flows.report.terminal import shortened
from tasks.lineage.compare import Comparison, FamilyCounts, SideBySide
from tasks.lineage.diff import Difference
from tasks.lineage.parameters import ParameterChange
from tasks.runtime.console import table_of
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable

STYLES = {"won": "green", "lost": "red", "changed": "yellow", "same": "dim"}
MAX_TEXT = 600
MAX_VALUE = 60
MAX_PARAMETERS = 40
MAX_BATCHES = 8


def comparison_page(comparison: Comparison, show: str | None = None) -> RenderableType:
    first, second = comparison.first.label, comparison.second.label
    page: list[RenderableType] = ["", Text.assemble((first, "bold"), " → ", (second, "bold")), _counts(comparison)]
    page += [Text(note, style="dim") for note in _notes(comparison)]
    page += _measures(comparison)
    if comparison.problem:
        page.append(Text(f"Parameters and data are not compared: {comparison.problem}", style="yellow"))
    if comparison.parameters is not None:
        page += [_title("Parameters that differ"), _indented(_parameters(comparison.parameters, first, second))]
        page += [_title("Data that differ"), _indented(_data(comparison.data))]
    if comparison.rows:
        page.append(_title(f"{count_of(len(comparison.rows), 'answer')} side by side, the largest change first"))
        page += [_indented(_answers(row, first, second)) for row in comparison.rows]
    elif show:
        page.append(Text(f"\nNo answer is {show}."))
    return Group(*page)


def _title(text: str) -> Text:
    return Text(f"\n{text}", style="bold cyan")


def _indented(part: RenderableType) -> Padding:
    return Padding(part, (0, 0, 0, 2))


def _counts(comparison: Comparison) -> Table:
    numbers = ("rows", "won", "lost", "changed", "same", "mean difference")
    columns = (Column(name, justify="right", no_wrap=True) for name in numbers)
    table = table_of(Column("family", overflow="fold"), *columns)
    for family in comparison.families:
        cells = [Text(f"{family.counts[outcome]:,}", style=STYLES[outcome]) for outcome in family.counts]
        style = "bold" if family is comparison.families[-1] else ""
        table.add_row(Text(printable(family.family)), f"{family.rows:,}", *cells, _difference(family), style=style)
    return table


def _difference(family: FamilyCounts) -> Text:
    if family.difference is None or family.interval is None:
        return Text("–")
    text = Text(f"{100 * family.difference:+.1f} points")
    low, high = family.interval
    text.append(f"  {f'[{100 * low:+.1f}, {100 * high:+.1f}]':>16}", style="not bold dim")
    return text


def _measures(comparison: Comparison) -> list[RenderableType]:
    """The numbers of both models beside their scores, side by side; nothing where neither has any."""
    models = {"first": comparison.measures.first, "second": comparison.measures.second}
    rows = [*probe_rows(models), *further_rows(models)]
    if not rows:
        return []
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("measure", overflow="fold")
    for label in (comparison.first.label, comparison.second.label):
        table.add_column(label, justify="right", overflow="fold")
    for name, _, cells in rows:
        table.add_row(Text(printable(name)), *(Text(cells.get(role) or "–") for role in models))
    parts: list[RenderableType] = [table]
    if not comparison.measures.is_one_run:
        parts.append(Text("They were measured in two runs, whose rows may differ.", style="dim"))
    return [_title("Other measures, on all rows of the runs"), _indented(Group(*parts))]


def _notes(comparison: Comparison) -> list[str]:
    first, second = comparison.first.label, comparison.second.label
    of_first, of_second = comparison.measures.sources
    is_one = of_first == of_second
    origin = f"Answers of both: {of_first}." if is_one else f"Answers of {first}: {of_first}; of {second}: {of_second}."
    others = [(comparison.only_first, first), (comparison.only_second, second)]
    notes = [origin]
    notes += [
        f"{count_of(rows, 'test row')} of {label} only: not compared. The other rows are those that both have."
        for rows, label in others
        if rows
    ]
    if comparison.not_comparable:
        rows = count_of(comparison.not_comparable, "row")
        notes.append(f"{rows} with another target or without a score: not compared.")
    if comparison.families[-1].difference is None:
        notes.append("Families with different metrics have no mean in common.")
    return notes


def _parameters(changes: list[ParameterChange], first: str, second: str) -> RenderableType:
    if not changes:
        return Text("none")
    table = table_of(*(Column(name, overflow="fold") for name in ("parameter", first, second)))
    for change in changes[:MAX_PARAMETERS]:
        table.add_row(Text(printable(change.name)), _value(change.first), _value(change.second))
    if len(changes) > MAX_PARAMETERS:
        table.add_row(Text(f"{len(changes) - MAX_PARAMETERS} more: --json", style="dim"), "", "")
    return table


def _value(value: Any) -> Text:
    if value is None:
        return Text("not set", style="dim")
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return Text(shortened(text, MAX_VALUE))


def _data(data: Difference | None) -> RenderableType:
    if data is None:
        return Text("none: both have the same dataset")
    lines = [
        f"{count_of(data.before, 'row')} → {count_of(data.after, 'row')}: {data.added.rows:,} added, "
        f"{data.removed.rows:,} removed, {data.edited.rows:,} edited, {data.moved.rows:,} in another split"
    ]
    for what, batches in (("added", data.batches_added), ("removed", data.batches_removed)):
        if batches:
            count, shown = count_of(len(batches), "batch", "batches"), ", ".join(batches[:MAX_BATCHES])
            more = f" and {len(batches) - MAX_BATCHES} more" if len(batches) > MAX_BATCHES else ""
            lines.append(f"{count} {what}: {shown}{more}")
    return Text(printable("\n".join(lines)))


def _answers(row: SideBySide, first: str, second: str) -> RenderableType:
    """Prompt and target above, the two answers in columns of equal width below."""
    head = Text.assemble(
        (row.outcome, STYLES[row.outcome]),
        (f" · {printable(row.family)} · {printable(row.language)} · row {row.row_id[:12]}", "dim"),
    )
    above = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    above.add_row("prompt", Text(shortened(row.prompt, MAX_TEXT), style="italic"))
    above.add_row("expected", Text(shortened(row.target, MAX_TEXT)))
    columns = (Column(ratio=1, overflow="fold") for _ in range(2))
    answers = Table.grid(*columns, padding=(0, 2), expand=True)
    scores = [(first, row.first_score), (second, row.second_score)]
    answers.add_row(*(Text(f"{label}: {score:.2f}", style="dim") for label, score in scores))
    answers.add_row(*(Text(shortened(text, MAX_TEXT) or "(nothing)") for text in (row.first, row.second)))
    return Group(head, above, answers, Text(""))
