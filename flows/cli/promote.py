"""promote and rollback: a person decides which model serves. Both are signed in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.common import Json, Why, began, console, enter_project, print_json, stdout_to_stderr

PANEL = "Serving"


def add_to(app: typer.Typer) -> None:
    app.command(rich_help_panel=PANEL)(promote)
    app.command(rich_help_panel=PANEL)(rollback)


def promote(
    version: Annotated[int, typer.Argument(min=1, help="The version to put into service.")],
    why: Why = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Though the gate refused it, or judged it against another champion. Needs --why."),
    ] = False,
    as_json: Json = False,
) -> int:
    """Put a version into service: the one that waits for approval, or an earlier one."""
    if force and not why:
        raise typer.BadParameter("--force needs a reason: --why TEXT")
    config = enter_project()
    from tasks.model_store.serving import champion_at

    expected = champion_at(config, began())  # before MLflow is imported: that takes seconds
    from tasks.promote import stage

    with stdout_to_stderr():  # the room's own line; standard output is for the answer
        entry = stage.promote(config, version, why=why or "by hand", expected_champion=expected, force=force)
    return _tell(entry, as_json)


def rollback(why: Why = "", as_json: Json = False) -> int:
    """Put the previous champion back into service: of several at once, one goes back one step."""
    config = enter_project()
    from tasks.model_store.serving import champion_at

    expected = champion_at(config, began())
    from tasks.promote import stage

    with stdout_to_stderr():
        entry = stage.rollback(config, why=why or "by hand", expected_champion=expected)
    return _tell(entry, as_json)


def _tell(entry: Any, as_json: bool) -> int:
    if as_json:
        print_json(asdict(entry))
    else:
        console().print(f"Version {entry.version} is now [bold]champion[/].")
    return 0
