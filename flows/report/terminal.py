"""A summary for the terminal (rich). Its content comes from summary.py; markdown.py has the same for Prefect."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Column, Table
from rich.text import Text

from flows.outcome import Outcome
from flows.report.drift_summary import Drift, drift_notes, drift_rows, drift_title
from flows.report.row_commands import command_for, failed_checks
from flows.report.row_table import Data, lines_of
from flows.report.summary import Score, Summary
from tasks.runtime.console import table_of
from tasks.runtime.visible_text import printable
from tasks.state.verdict import outcome_of, rows_needed_text

MAX_TEXT = 220
MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "yellow")}
DRIFT_STYLES = {"minor": "yellow", "major": "red"}
OUTCOME_STYLES = {
    "promoted": "bold green",
    "refused": "bold red",
    "waiting": "bold yellow",
    "canary": "bold yellow",
    "expired": "bold yellow",
    "rejected": "bold red",
    "inconclusive": "bold yellow",
}


def summary_page(summary: Summary, outcome: Outcome | None = None) -> RenderableType:
    """All parts of the summary, and the outcome of the run."""
    title = f"[bold]{escape(summary.model)}[/] · {_dataset(summary)}"
    page: list[RenderableType] = ["", Rule(title, align="left", style="cyan")]
    for title, part in _parts(summary):
        page += [f"\n[bold cyan]{title}[/]", Padding(part, (0, 0, 0, 2))]
    if summary.report:
        page.append(Text(f"\nReport with all answers, slices and plots: {summary.report}", style="dim"))
    if outcome is not None:
        page.append(f"\n[{OUTCOME_STYLES.get(outcome.kind, 'bold')}]{escape(outcome.message)}[/]")
    if summary.next_commands:
        page += ["\n[bold cyan]Next commands[/]", Padding(_commands(summary.next_commands), (0, 0, 0, 2))]
    return Group(*page, "")


def _dataset(summary: Summary) -> str:
    if summary.unrecorded:
        recorded = f"dvc.lock: {_short(summary.dataset)}" if summary.dataset else "none in dvc.lock"
        return f"dataset {_short(summary.unrecorded)} in data/curated ({recorded})"
    return f"dataset {_short(summary.dataset)}" if summary.dataset else "no dataset yet"


def _short(dataset: str) -> str:
    return dataset.removesuffix(".dir")[:8]


def _parts(summary: Summary) -> list[tuple[str, RenderableType]]:
    parts: list[tuple[str, RenderableType]] = []
    if summary.data:
        parts.append(("Rows", _data(summary.data)))
    if summary.drift:
        parts.append((drift_title(summary.drift), _drift(summary.drift)))
    if summary.families:
        parts.append((f"Scores on the same {summary.test_rows:,} held-out rows", _scores(summary)))
    if summary.verdict:
        parts.append((f"Gate: {verdict_line(summary)}", _checks(summary.verdict)))
    if summary.new_batches and summary.champion:
        parts.append((f"Batches that version {summary.champion} was not trained on", _batches(summary.new_batches)))
    if summary.answers:
        parts.append((f"{len(summary.answers)} answers side by side, chosen by row id", _answers(summary)))
    return parts


def verdict_line(summary: Summary) -> str:
    """Version, the gate's verdict, and the model it was compared with."""
    verdict = summary.verdict
    assert verdict is not None
    against = f"champion, version {verdict['champion_version']}" if verdict["champion_version"] else "base"
    version = f"version {summary.version}" if summary.version else "the candidate"
    result = {"passed": "passed", "refused": "was refused"}.get(outcome_of(verdict), "is not decided")
    needed = rows_needed_text(verdict.get("rows_needed"))
    return f"{version} {result}, against the {against} (look {verdict['look']}{needed})"


def _data(data: Data) -> RenderableType:
    table = Table.grid(Column(justify="right"), Column(), Column(overflow="fold"), padding=(0, 2))
    for line in lines_of(data):
        table.add_row(f"{line.count:,}", Text(line.name, "bold" if line.is_sum else ""), Text(line.detail))
    if data.released:
        table.add_row(f"{data.released:,}", "released", "from quarantine, included in the rows above")
    for batch in data.set_aside:
        table.add_row("[red]![/]", "[red]set aside[/]", Text(set_aside_line(batch), style="red"))
    return table


def _drift(drift: Drift) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for shift, (level, family, what, psi, _, bins) in zip(drift.moved, drift_rows(drift), strict=False):
        style = DRIFT_STYLES[shift.level]
        table.add_row(Text(level, style=style), Text(family), what, f"PSI {psi}", Text(bins, overflow="fold"))
    notes = [Text(note, style="dim") for note in drift_notes(drift)]
    plot = [Text(drift.picture, style="dim")] if drift.picture else []
    return Group(*([table] if drift.moved else []), *notes, *plot)


def set_aside_line(batch: dict[str, Any]) -> str:
    reasons = " · ".join(f"{reason} {count:,}" for reason, count in batch["top_reasons"])
    name = f"batch {batch['batch']} of {batch['source']}"
    if not batch["refused_share"]:
        return f"{name}: its {batch['rows']:,} rows are too few"
    return f"{name}: {batch['refused_share']:.0%} of {batch['rows']:,} rows refused ({reasons})"


def _scores(summary: Summary) -> RenderableType:
    roles = summary.roles
    columns = (Column(role_name(summary, role), justify="right", no_wrap=True) for role in roles)
    table = table_of("family", Column("measure", style="dim"), Column("rows", justify="right"), *columns)
    for family in summary.families:
        scores = (_score(family.scores.get(role)) for role in roles)
        style = "bold" if family.family == "overall" else ""
        table.add_row(family.family, family.measure, f"{family.rows:,}", *scores, style=style)
    if summary.perplexity:
        values = [f"{summary.perplexity[role]:,.2f}" if role in summary.perplexity else "" for role in roles]
        table.add_row("", "perplexity", "", *_dim(values))
    for name, losses in summary.valid_losses.items():
        values = [f"{losses[role]:,.3f}" if role in losses else "" for role in roles]
        table.add_row(Text(name, style="dim"), "valid loss", "", *_dim(values))
    return Group(table, *(Text(note, style="dim") for note in summary.answer_notes))


def _dim(values: list[str]) -> list[Text]:
    """Numbers without an interval, aligned with numbers that have one."""
    return [Text(f"{value}                ", style="dim") for value in values]


def _score(score: Score | None) -> Text:
    if score is None:
        return Text("")
    text = Text(f"{score.score:.1%}")
    if score.interval:
        low, high = score.interval
        text.append(f"  {f'[{100 * low:.1f}, {100 * high:.1f}]':>14}", style="not bold dim")
    return text


def role_name(summary: Summary, role: str) -> str:
    """`champion v2`; the base has no version."""
    number = {"champion": (summary.verdict or {}).get("champion_version"), "candidate": summary.version}.get(role)
    return f"{role} v{number}" if number else role


def mark_of(check: dict[str, Any]) -> tuple[str, str]:
    """Mark and style of a check: a question mark if more rows would decide it, an exclamation mark if it is only reported."""
    if check["passed"] is False and check.get("tier") == "advisory":
        return "!", "yellow"
    if check["passed"] is False and (check.get("rows_needed") or check.get("is_open")):
        return "?", "yellow"
    return MARKS[check["passed"]]


def _checks(verdict: dict[str, Any]) -> RenderableType:
    table = Table.grid(Column(), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    failed = failed_checks(verdict)
    for check in verdict["checks"]:
        mark, style = mark_of(check)
        detail = Text(check["detail"], style="" if check["passed"] else style)
        table.add_row(f"[{style}]{mark}[/]", escape(check["name"]), detail)
        if check in failed and (command := command_for(check, verdict)):
            table.add_row("", "", Text.assemble("its rows: ", (printable(command), "bold")))
    return table


def _batches(batches: list[dict[str, Any]]) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    for batch in batches:
        refused = f"{batch['refused']:,} refused" if batch["refused"] else ""
        table.add_row(f"[bold]{batch['batch']}[/]", escape(batch["source"]), f"{batch['rows']:,} rows", refused)
    return table


def _answers(summary: Summary) -> RenderableType:
    blocks: list[RenderableType] = []
    for answers in summary.answers:
        grid = Table.grid(Column(style="dim", no_wrap=True), Column(overflow="fold"), padding=(0, 2))
        grid.add_row(answers.family, Text(shortened(answers.prompt), style="italic"))
        grid.add_row("expected", Text(shortened(answers.target)))
        for role, prediction in answers.predictions.items():
            style = "green" if answers.scores[role] >= 1.0 else ""
            grid.add_row(role_name(summary, role), Text(shortened(prediction) or "(nothing)", style=style))
        blocks += [grid, Text("")]
    return Group(*blocks[:-1])


def shortened(text: str, limit: int = MAX_TEXT) -> str:
    """The text on one line; the middle of a long text is omitted."""
    line = " ".join(printable(text).split())
    if len(line) <= limit:
        return line
    half = (limit - 3) // 2
    return f"{line[:half].rstrip()} … {line[-half:].lstrip()}"


def _commands(commands: list[tuple[str, str]]) -> RenderableType:
    table = Table.grid(padding=(0, 3))
    for command, what in commands:
        table.add_row(Text(command, style="bold"), Text(what, style="dim"))
    return table
