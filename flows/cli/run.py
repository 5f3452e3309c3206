"""run, demo and schedule."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json, stdout_to_stderr

PANEL = "Retraining"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(run)
    app.command(rich_help_panel=PANEL)(demo)
    app.command(rich_help_panel=PANEL)(schedule)


def run(
    rejudge: Annotated[
        bool,
        typer.Option("--rejudge", help="Judge the candidate again, against today's champion, though nothing is new."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Retrain on what is new, once: ingest, train, evaluate, judge, register and promote."""
    config = enter_project()
    from flows.run_once import run_once, summary_of_run

    if as_json:
        with stdout_to_stderr():  # the stages' lines; standard output is for the JSON alone
            outcome = run_once(rejudge)
        summary = None if outcome.kind == "nothing_new" else summary_of_run(config).as_dict()
        print_json({**outcome.as_dict(), "summary": summary})
        return outcome.exit_code
    outcome = run_once(rejudge)
    sys.stdout.flush()
    if outcome.kind == "nothing_new":
        console().print(f"[bold]{outcome.message}[/]")
        return outcome.exit_code
    from flows.report.terminal import tell_summary

    tell_summary(console(), summary_of_run(config), outcome)
    return outcome.exit_code


def demo(
    rounds: Annotated[
        int, typer.Option(min=1, max=3, help="3 tells the whole story: a better model, then a bad batch.")
    ] = 1,
    folder: Annotated[Path | None, typer.Option(help="Where the demo's own project is made. Default: .demo")] = None,
) -> int:
    """Run the whole retraining on an embedded model and real data, in a folder of its own."""
    from flows.demo.project import demo as run_demo

    return run_demo(rounds, folder)


def schedule(
    cron: Annotated[str | None, typer.Option(help='When, as cron says it: "0 2 * * 0" is Sundays at 2.')] = None,
    timezone: Annotated[
        str | None, typer.Option(help="The cron's time zone, such as Asia/Shanghai. Default: UTC.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="How often: 20s, 30m, 6h, 1d, 1w.")] = None,
) -> int:
    """Serve the flow on a clock until stopped, one run at a time."""
    enter_project()  # its mistakes are found now, not at two in the night
    from flows.schedule import parse_schedule, serve

    if (cron is None) == (every is None):
        raise typer.BadParameter("Say either --cron or --every.")
    if timezone is not None and cron is None:
        raise typer.BadParameter("--timezone belongs to --cron.")
    serve(parse_schedule(cron, timezone, every))
    return 0
