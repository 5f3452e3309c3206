"""registry: the MLflow registry as a whole. What it holds follows from git and DVC, and can be made again from them."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json, stdout_to_stderr
from tasks.runtime.plurals import count_of

app = typer.Typer(help="The MLflow registry: make it again when it is lost or damaged.", no_args_is_help=True)


@app.callback()
def choose() -> None:
    """Keeps `rebuild` a command with a name of its own."""


@app.command()
def rebuild(
    replace: Annotated[
        bool,
        typer.Option(
            "--replace",
            help="Put versions that are not those of git aside, under another name, and make all again. Removes nothing.",
        ),
    ] = False,
    as_json: Json = False,
) -> int:
    """Make the registry again from tags, receipts, the ledger and DVC: the same version numbers, tags, aliases, runs and models.

    For a registry that was deleted or damaged, or for moving to another one (register.tracking_uri): a file or a server. A damaged
    file is kept under another name. Run again, it makes what is still missing. What cannot be restored is named, by version.
    """
    config = enter_project()
    from tasks.promote.stage import reconcile
    from tasks.register.rebuild import rebuild as make_again

    with stdout_to_stderr():
        rebuilt = make_again(config, replace)
        reconcile(config)
    if as_json:
        print_json(asdict(rebuilt))
        return 0
    made, kept = count_of(len(rebuilt.made), "version"), count_of(len(rebuilt.kept), "version")
    console().print(f"[bold]{made} made again[/], {kept} there already.")
    if rebuilt.aside:
        console().print(f"What was in the way is kept as {rebuilt.aside}.", markup=False)
    for version, missing in rebuilt.missing.items():
        console().print(f"v{version} is without {'; '.join(missing)}", markup=False)
    return 0
