"""The summary as Markdown, for Prefect's UI and data/reports/summary.md."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flows.outcome import Outcome
from flows.report.drift_summary import Drift, drift_notes, drift_rows, drift_title
from flows.report.row_commands import command_for, failed_checks
from flows.report.row_table import Data, lines_of
from flows.report.summary import Score, Summary
from flows.report.terminal import mark_of, role_name, set_aside_line, shortened, verdict_line
from tasks import paths
from tasks.runtime.visible_text import printable, printable_markdown


def as_markdown(summary: Summary, outcome: Outcome, shows_answers: bool = True, report: str = paths.REPORT.name) -> str:
    """The same content as on the terminal; answers contain text of test rows.

    Args:
        report: the address of the HTML report, by default in the same folder as the summary.
    """
    parts = [f"# {outcome.message}", f"Model `{summary.model}`, dataset `{summary.dataset}`."]
    if summary.data:
        parts.append(_data(summary.data))
    if summary.drift:
        parts.append(_drift(summary.drift))
    if summary.families:
        parts.append(_scores(summary))
    if summary.verdict:
        parts.append(_checks(summary))
    if summary.new_batches:
        rows = [[b["batch"], b["source"], b["rows"], b["refused"]] for b in summary.new_batches]
        title = f"## Batches that version {summary.champion} was not trained on"
        parts.append(f"{title}\n\n{_table(['batch', 'source', 'rows', 'refused'], rows)}")
    if summary.answers and shows_answers:
        parts.append(_answers(summary))
    if summary.report:
        parts.append(f"Report with all answers, slices and plots: [{summary.report}]({report})")
    parts.append("## Next commands\n\n" + "\n".join(f"- `{c}`: {what}" for c, what in summary.next_commands))
    return "\n\n".join(parts) + "\n"


def score_rows(summary: Summary) -> list[dict[str, Any]]:
    """One row per family, for Prefect's table artifact."""
    return [
        {
            "family": family.family,
            "measure": family.measure,
            "rows": family.rows,
            **{role_name(summary, role): _score(score) for role, score in family.scores.items()},
        }
        for family in summary.families
    ]


def _data(data: Data) -> str:
    rows = [[f"{line.count:,}", line.name, line.detail] for line in lines_of(data)]
    aside = [f"- **set aside**: {set_aside_line(batch)}" for batch in data.set_aside]
    return "\n\n".join(["## Rows", _table(["rows", "", ""], rows), *(["\n".join(aside)] if aside else [])])


def _drift(drift: Drift) -> str:
    parts = [f"## {drift_title(drift)}"]
    if drift.moved:
        rows = [[printable_markdown(cell) for cell in row] for row in drift_rows(drift)]
        parts.append(_table(["", "family", "measure", "PSI", "JS", "largest changes"], rows))
    parts.append("\n".join(f"- {printable_markdown(note)}" for note in drift_notes(drift)))
    if drift.picture:
        parts.append(f"Plot: [{drift.picture}]({Path(drift.picture).name})")  # in the same folder as the summary
    return "\n\n".join(parts)


def _scores(summary: Summary) -> str:
    rows = score_rows(summary)
    heads = list(dict.fromkeys(name for row in rows for name in row))
    table = _table(heads, [[row.get(name, "") for name in heads] for row in rows])
    lines = "\n".join(f"- {printable_markdown(note)}" for note in summary.answer_notes)
    notes = f"\n\n{lines}" if lines else ""
    return f"## Scores on the same {summary.test_rows:,} held-out rows\n\n{table}{notes}"


def _checks(summary: Summary) -> str:
    assert summary.verdict is not None
    rows = [[mark_of(check)[0], printable(check["name"]), check["detail"]] for check in summary.verdict["checks"]]
    parts = [f"## Gate: {verdict_line(summary)}", _table(["", "check", "result"], rows)]
    lines = [
        f"- {printable(check['name'])}: `{printable(command).replace('`', '')}`"
        for check in failed_checks(summary.verdict)
        if (command := command_for(check, summary.verdict))
    ]
    return "\n\n".join([*parts, *(["The rows behind the failed checks:", "\n".join(lines)] if lines else [])])


def _answers(summary: Summary) -> str:
    roles = list(summary.answers[0].predictions)
    head = ["prompt", "expected", *(role_name(summary, role) for role in roles)]
    rows = [
        [printable_markdown(shortened(text)) for text in (a.prompt, a.target, *(a.predictions[role] for role in roles))]
        for a in summary.answers
    ]
    return f"## Answers side by side, chosen by row id\n\n{_table(head, rows)}"


def _score(score: Score) -> str:
    ends = f" [{100 * score.interval[0]:.1f}, {100 * score.interval[1]:.1f}]" if score.interval else ""
    return f"{score.score:.1%}{ends}"


def _table(head: list[str], rows: list[list[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    """A cell with a number or a sentence of Strop; texts of rows are escaped by `printable_markdown` before."""
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;").replace("\n", " ")
