"""run, demo and schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.cli.common import Json, console, enter_project, enter_root, print_json, stdout_to_stderr


def run(
    rejudge: Annotated[
        bool,
        typer.Option("--rejudge", help="Compare the candidate with the present champion again, also without new data."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Retrain once on new data: check, ingest, train, evaluate, decide, register and promote."""
    enter_root()
    from flows.run_once import run_once, summary_of_run
    from tasks.config import load_config

    # custom rules, plugins and libraries print in the processes of the stages, where no level of ours applies
    with stdout_to_stderr():
        outcome = run_once(rejudge)
    if as_json:
        summary = None if outcome.kind == "nothing_new" else summary_of_run(load_config()).as_dict()
        print_json({**outcome.as_dict(), "summary": summary})
        return outcome.exit_code
    if outcome.kind == "nothing_new":
        console().print(f"[bold]{outcome.message}[/]")
        return outcome.exit_code
    from flows.report.terminal import summary_page

    console().print(summary_page(summary_of_run(load_config()), outcome))
    return outcome.exit_code


def demo(
    rounds: Annotated[
        int,
        typer.Option(min=1, max=3, help="3: a first model, a better model, then a bad batch that the gate refuses."),
    ] = 1,
    loop: Annotated[
        bool,
        typer.Option("--loop", help="A model is served, and the next one learns from what people say of its answers."),
    ] = False,
    folder: Annotated[Path | None, typer.Option(help="The folder of the demo's project. Default: .demo")] = None,
) -> int:
    """Run the whole pipeline on an embedded model and real data, in a folder of its own."""
    from flows.demo import project
    from tasks.runtime.console import VisibleConsole

    show = VisibleConsole(highlight=False).print
    if loop and rounds > 1:
        raise typer.BadParameter("Give either --rounds or --loop.")
    return project.demo_loop(show, folder) if loop else project.demo(show, rounds, folder)


def schedule(
    cron: Annotated[str | None, typer.Option(help='A cron expression: "0 2 * * 0" is Sundays at 2.')] = None,
    timezone: Annotated[
        str | None, typer.Option(help="The cron's time zone, such as Asia/Shanghai. Default: UTC.")
    ] = None,
    every: Annotated[str | None, typer.Option(help="An interval: 20s, 30m, 6h, 1d, 1w.")] = None,
) -> None:
    """Run the flow on a schedule until stopped, one run at a time."""
    enter_project()  # reports invalid settings now, not at the first run
    from flows.schedule import parse_schedule, serve

    if (cron is None) == (every is None):
        raise typer.BadParameter("Give either --cron or --every.")
    if timezone is not None and cron is None:
        raise typer.BadParameter("--timezone belongs to --cron.")
    serve(parse_schedule(cron, timezone, every))
