"""One run of the demo, and its summary."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rich.console import RenderableType

from flows.outcome import Outcome

Show = Callable[[RenderableType], None]
"""Prints a result."""


def run_and_report(show: Show) -> Outcome:
    """One run in the current project, and its summary."""
    from flows.run_once import run_once

    outcome = run_once()
    if outcome.kind == "nothing_new":
        show(f"[bold]{outcome.message}[/]")
        return outcome
    from flows.report.summary import read_summary
    from flows.report.terminal import summary_page
    from tasks.config import load_config

    show(summary_page(read_summary(load_config()), outcome))
    show(
        f"[dim]These commands work in the demo's own project:[/] cd {os.path.relpath(Path.cwd(), os.environ.get('PWD', '/'))}"
    )
    return outcome
