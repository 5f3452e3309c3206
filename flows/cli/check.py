"""check: everything that can be known to be wrong before a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flows.cli.common import Json, console, enter_root, print_grid, print_json, stdout_to_stderr
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from flows.preflight.run import Report

STYLES = {"error": "bold red", "warning": "yellow", "skipped": "dim"}


def check(as_json: Json = False) -> int:
    """Check everything that a run needs: settings, contract, templates, sources, base, training, registry. Changes nothing."""
    enter_root()
    from flows.preflight.run import check_project

    with stdout_to_stderr():
        report = check_project()
    if as_json:
        print_json(report.as_dict())
    else:
        _print(report)
    return 0 if report.is_ready else 1


def _print(report: Report) -> None:
    """The problems as a table, one row each, and a sentence."""
    from rich.text import Text

    rows = []
    for problem in report.problems:
        text = Text(printable(f"{problem.where}: {problem.what}" if problem.where else problem.what), overflow="fold")
        if problem.fix:
            text.append(f"\n→ {printable(problem.fix)}", style="bold")
        rows.append((Text(problem.severity, style=STYLES[problem.severity]), problem.check, text))
    print_grid(rows)
    console().print(report.summary, style="bold", markup=False)
