"""promote and rollback: the user decides which model serves. Both are recorded in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flows.cli.common import Json, Why, began, console, enter_project, print_json

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


def promote(
    version: Annotated[int, typer.Argument(min=1, help="The version to promote.")],
    why: Why = "",
    force: Annotated[
        bool,
        typer.Option("--force", help="Also if the gate refused it, or compared it with another champion. Needs --why."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Promote a version: one that waits for approval, or an earlier one."""
    if force and not why:
        raise typer.BadParameter("--force needs a reason: --why TEXT")
    config, expected = _enter_project()
    from tasks.promote import stage

    entry = stage.promote(config, version, why=why or "by hand", expected_champion=expected, force=force)
    _report(entry, as_json)


def rollback(why: Why = "", as_json: Json = False) -> None:
    """Promote the previous champion again. Of several concurrent rollbacks, only one takes effect."""
    config, expected = _enter_project()
    from tasks.promote import stage

    entry = stage.rollback(config, why=why or "by hand", expected_champion=expected)
    _report(entry, as_json)


def _enter_project() -> tuple[PipelineConfig, int | None]:
    """The settings, and the champion when the command began: read before the import of MLflow, which takes seconds."""
    config = enter_project()
    from tasks.model_store.ledger_remote import follow_remote
    from tasks.model_store.serving import champion_at

    follow_remote(config.register_.model_name, config.register_.ledger_remote)
    return config, champion_at(config, began())


def _report(entry: Any, as_json: bool) -> None:
    if as_json:
        print_json(asdict(entry))
    else:
        console().print(f"Version {entry.version} is now [bold]champion[/].")
