"""approve, reject, promote and rollback: a person decides which model serves. Each decision is recorded in the ledger."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from flows.cli.common import Json, Why, as_text, began, console, enter_project, print_json, stdout_to_stderr

if TYPE_CHECKING:
    from tasks.config import PipelineConfig


Version = Annotated[int, typer.Argument(min=1, help="A version that passed the gate and that nobody decided about.")]
Reason = Annotated[str, typer.Option("--why", callback=as_text, help="The reason, for the ledger. Required.")]


def approve(version: Version, why: Reason = "", as_json: Json = False) -> None:
    """Approve a version that waits: a run of the flow `promote` puts it into service.

    It must have been judged against the champion, within the time for approvals (`promote.approval_days`).
    """
    config = _enter_to_decide(why)
    from flows.approval import promote_by_flow
    from tasks.model_store.ledger import current_user, read_ledger
    from tasks.promote.approval import repeated_approval, require_waiting

    entries, who = read_ledger(config.register_.model_name), current_user()
    if (
        repeated_approval(entries, version, who, why) is None
    ):  # of an approval that was killed, the same command does the rest
        require_waiting(config, entries, version)  # before a server starts
    with stdout_to_stderr():
        result = promote_by_flow(version, why, who)
    if as_json:
        print_json(asdict(result))
    else:
        console().print(escape(result.message))


def reject(version: Version, why: Reason = "", as_json: Json = False) -> None:
    """Reject a version that passed the gate, also after its time for approval: it will not serve."""
    config = _enter_to_decide(why)
    from tasks.promote.approval import reject as reject_version

    entry = reject_version(config, version, why)
    if as_json:
        print_json(asdict(entry))
    else:
        console().print(f"Version {entry.version} is rejected.")


def promote(
    version: Annotated[int, typer.Argument(min=1, help="The version to promote.")],
    why: Why = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Also a version that was refused, rejected, judged too long ago, or judged against another model than the one "
            "that serves: so any that was judged, unless strop gc removed its files. Needs --why.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Promote a version that passed the gate, compared with the model that serves now.

    For the previous champion: strop rollback. An earlier one, which was compared with another model, needs --force.
    """
    if force and not why.strip():
        raise typer.BadParameter("--force needs a reason: --why TEXT")
    config, expected = _enter_project()
    from tasks.promote import stage

    entry = stage.promote(config, version, why=why or "by hand", expected_champion=expected, force=force)
    _report(entry, as_json, served=expected == version)


def rollback(why: Why = "", as_json: Json = False) -> None:
    """Put the previous champion back into service; again: the one before it. Of several concurrent rollbacks, one takes effect."""
    config, expected = _enter_project()
    from tasks.promote import stage

    entry = stage.rollback(config, why=why or "by hand", expected_champion=expected)
    _report(entry, as_json)


def _enter_to_decide(why: str) -> PipelineConfig:
    if not why.strip():
        raise typer.BadParameter("a decision needs a reason, for the ledger: --why TEXT")
    config = enter_project()
    from tasks.model_store.ledger_remote import follow_remote

    follow_remote(config.register_.model_name, config.register_.ledger_remote)
    return config


def _enter_project() -> tuple[PipelineConfig, int | None]:
    """The settings, and the champion when the command began: read before the import of MLflow, which takes seconds."""
    config = enter_project()
    from tasks.model_store.ledger_remote import follow_remote
    from tasks.model_store.serving import champion_at

    follow_remote(config.register_.model_name, config.register_.ledger_remote)
    return config, champion_at(config, began())


def _report(entry: Any, as_json: bool, *, served: bool = False) -> None:
    if as_json:
        print_json(asdict(entry))
    elif served:
        console().print(f"Version {entry.version} is [bold]champion[/] already: the ledger is unchanged.")
    else:
        console().print(f"Version {entry.version} is now [bold]champion[/].")
