"""registry: the MLflow registry as a whole. It can be rebuilt from git and DVC."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json, stdout_to_stderr
from tasks.runtime.plurals import count_of

app = typer.Typer(help="The MLflow registry: rebuild it if it is lost or damaged.", no_args_is_help=True)


@app.callback()
def choose() -> None:
    """Makes `rebuild` a subcommand."""


@app.command()
def rebuild(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Move versions that differ from git to another name, and rebuild all. Removes nothing.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Rebuild the registry from tags, receipts, the ledger and DVC: the same version numbers, tags, aliases, runs and models.

    For a registry that was deleted or damaged, or to move to another one (register.tracking_uri), a file or a server. A damaged
    file is kept under another name. A second call adds what is still missing. What cannot be restored is listed by version.
    """
    config = enter_project()
    from tasks.promote.stage import reconcile
    from tasks.register.rebuild import rebuild as rebuild_registry

    with stdout_to_stderr():  # MLflow and transformers print in the processes that log the models
        rebuilt = rebuild_registry(config, replace)
        reconcile(config)
    if as_json:
        print_json(asdict(rebuilt))
        return
    made, kept = count_of(len(rebuilt.made), "version"), count_of(len(rebuilt.kept), "version")
    console().print(f"[bold]{made} rebuilt[/], {kept} unchanged.")
    if rebuilt.aside:
        console().print(f"The old content is kept as {rebuilt.aside}.", markup=False)
    for version, missing in rebuilt.missing.items():
        console().print(f"v{version} is without {'; '.join(missing)}", markup=False)
