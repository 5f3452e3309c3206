"""reproduce: makes a version again from its commit, and compares every output."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from flows.cli.common import Json, console, enter_project, print_json
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from tasks.reproduce.result import Reproduction, StageResult

SHOWN = 5
"""Packages that differ, by name; the others are counted."""


def reproduce(
    version: Annotated[int, typer.Argument(min=1, help="The version to make again.")],
    environment: Annotated[
        Literal["lock", "current"],
        typer.Option(help="Packages: those of the version's lock, installed by uv, or those of this process."),
    ] = "lock",
    fresh: Annotated[bool, typer.Option("--fresh", help="Build the environment again, even if it exists.")] = False,
    keep: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Keep the clone, with all outputs, in a new folder.")
    ] = None,
    restore: Annotated[
        bool, typer.Option("--restore", help="Store identical outputs in DVC's cache where it has lost them.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Make a version again from its commit alone, and compare every output with the recorded one.

    A clone at the version's commit, an environment from its lock, and every stage anew, with an empty cache: the result is
    `identical`, or names the stage that differs first, and by how much. Takes as long as the run that made the version.
    """
    kept = keep.absolute() if keep else None  # the project's root is the working directory from here
    config = enter_project()
    from tasks.reproduce.stage import Options, reproduce

    options = Options(environment, fresh, kept, restore)
    result = reproduce(config, version, options, None if as_json else print_stage)
    if as_json:
        print_json(result.as_dict())
    else:
        print_result(result)
    return 0 if result.is_identical else 1


def print_stage(stage: StageResult) -> None:
    """A stage in one line, and a line for each output that differs."""
    compared = [output for output in stage.outputs if output.state != "not compared"]
    state = "[bold red]differs[/]" if stage.differs else "[green]identical[/]"
    console().print(f"{stage.name:<10} {stage.seconds:>8,.1f} s  {state}  {count_of(len(compared), 'output')}")
    for output in stage.outputs:
        if output.state != "identical":
            console().print(f"  {output.path}: {output.state}: {printable(output.detail)}", markup=False)


def print_result(result: Reproduction) -> None:
    """What may explain a difference, and the conclusion."""
    lines = [*result.machine, *result.notes]
    if differences := result.environment.differences:
        more = f" and {len(differences) - SHOWN:,} more" if len(differences) > SHOWN else ""
        lines.append(f"environment, with the receipt's in brackets: {', '.join(differences[:SHOWN])}{more}")
    for line in lines:
        console().print(f"Note: {printable(line)}", markup=False)
    if result.restored:
        console().print(f"Restored in DVC's cache: {count_of(result.restored, 'file')}")
    if result.clone:
        console().print(f"Clone: {printable(str(result.clone))}", markup=False)
    source = {"lock": "its lock", "current": "this process"}[result.environment.kind]
    name = f"{result.model} v{result.version}, with the environment of {source}, in {result.seconds:,.0f} s"
    console().print(f"\n{name}:\n{printable(result.conclusion)}", markup=False, style="bold")
