"""One run of the demo, and its summary."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from flows.outcome import Outcome


def run_and_report(console: Console) -> Outcome:
    """One run in the current project, and its summary."""
    from flows.run_once import run_once

    outcome = run_once()
    if outcome.kind == "nothing_new":
        console.print(f"[bold]{outcome.message}[/]")
        return outcome
    from flows.report.summary import read_summary
    from flows.report.terminal import print_summary
    from tasks.config import load_config

    print_summary(console, read_summary(load_config()), outcome)
    console.print(
        f"[dim]These commands work in the demo's own project:[/] cd {os.path.relpath(Path.cwd(), os.environ.get('PWD', '/'))}"
    )
    return outcome
