"""data build: generates instruction rows by the recipes in params.yaml, and reports generated and refused rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.common import Json, console, enter_project, print_json
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    from tasks.build.stage import RecipeResult


def build(
    recipe: Annotated[str | None, typer.Option(metavar="NAME", help="Only this recipe. Default: all.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Write nothing and call no model: show what would be generated.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Generate instruction rows by the recipes in params.yaml. The next run collects them."""
    config = enter_project()
    from tasks.build.stage import build as build_rows

    results = build_rows(config, recipe, dry_run)
    if as_json:
        print_json({"dry_run": dry_run, "recipes": [asdict(result) for result in results]})
        return
    for result in results:
        for line in _lines(result, dry_run):
            console().print(line, soft_wrap=True)


def _lines(built: RecipeResult, dry_run: bool) -> list[str]:
    from rich.markup import escape

    would = "would be " if dry_run else ""
    lines = [f"[bold]{built.recipe}[/] ({built.kind.replace('_', ' ')}): {built.new:,} new rows {would}generated"]
    if built.made > built.new:
        lines.append(f"  {built.made - built.new:,} more are in its files already")
    for reason, count in built.refused.items():
        lines.append(f"  refused {count:,}: {reason.replace('_', ' ')}")
    if built.generated or built.remembered:
        lines.append(f"  answers: {built.generated:,} generated, {built.remembered:,} cached")
    if built.not_generated:
        lines.append(f"  at least {built.not_generated:,} answers would be generated")
    if built.file:
        lines.append(f"  → {escape(printable(built.file))}")
        if built.collected_by is None:
            pattern = built.file.rpartition("/")[0] + "/*.jsonl"
            lines.append(
                f"  [yellow]no source collects it.[/] Add to ingest.sources: "
                f"{{name: {built.recipe}, path: {escape(printable(pattern))}, shape: row, family: …}}"
            )
        else:
            lines.append(f"  source {built.collected_by} collects it: [bold]strop run[/]")
    return lines
