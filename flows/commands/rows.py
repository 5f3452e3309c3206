"""rows: what is known of a row, and rows that must go."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.commands.common import Json, console, enter_project, print_json
from tasks.errors import DataError

app = typer.Typer(help="Single rows: where one came from and what became of it; forget one.", no_args_is_help=True)

Row = Annotated[str, typer.Argument(help="The row's id, or its first characters.")]


@app.command()
def why(row: Row, as_json: Json = False) -> int:
    """Where a row came from, every decision made on it, its side, and which versions were trained on it."""
    config = enter_project()
    from tasks.lineage.why import why as find

    found = find(row, config.register_.model_name)
    if as_json:
        print_json(asdict(found))
        return 0
    from rich.text import Text

    out = console()
    out.print(f"[bold]{found.row_id}[/]")
    for name in ("family", "language", "system", "instruction", "input", "output"):
        if text := found.content.get(name):
            out.print(Text.assemble((f"  {name:<12}", "dim"), " ".join(str(text).split())[:300]))
    for copy in found.copies:
        out.print(Text(f"\ncame in {copy.file} line {copy.line}, source {copy.source}, batch {copy.batch}"))
        out.print(Text(f"  {_told(copy)}"))
    for each in found.decisions:
        out.print(Text(f"  {each.when[:16].replace('T', ' ')}  {each.what} by {each.who}: {each.why}"))
    trained = [f"v{version}" for version, split in found.versions.items() if split == "train"]
    tested = [f"v{version}" for version, split in found.versions.items() if split != "train"]
    out.print(
        f"\ntrained on it: {', '.join(trained) or 'no version'} · held it out: {', '.join(tested) or 'no version'}"
    )
    return 0


@app.command()
def forget(
    rows: Annotated[list[str] | None, typer.Argument(help="Ids of rows, or their first characters.")] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=VALUE or FIELD~REGEX, such as source=support or input~Li Lei; all must hold."),
    ] = None,
    why: Annotated[str, typer.Option("--why", help="The reason, for the record.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rows it would be.")] = False,
    as_json: Json = False,
) -> int:
    """Leave rows out of every later version, for good. Says which registered versions were trained on them."""
    config = enter_project()
    if not why and not dry_run:
        raise DataError("a reason is missing", where="strop rows forget", fix="Say it: --why 'asked to by the person'")
    from tasks.decisions import record_decision
    from tasks.lineage.choose import chosen_rows
    from tasks.lineage.why import versions_with

    chosen = chosen_rows(rows or [], where or [])
    seen = versions_with(set(chosen), config.register_.model_name)
    versions = sorted({version for splits in seen.values() for version in splits})
    if not dry_run:
        for row_id in chosen:
            record_decision("forget", row_id, why)
    if as_json:
        print_json({"rows": chosen, "versions": versions, "is_recorded": not dry_run})
        return 0
    done = "would be forgotten" if dry_run else "are forgotten, from the next run on: [bold]strop run[/]"
    console().print(f"{len(chosen):,} rows {done}")
    if versions:
        console().print(f"These versions hold them: {', '.join(f'v{version}' for version in versions)}")
    return 0


def _told(copy: Any) -> str:
    if copy.state == "kept":
        return f"kept, on the {copy.split} side" + (f", as it follows {copy.group}" if copy.group else "")
    reason = f" by {copy.room}: {copy.reason}" if copy.reason else ""
    return f"{copy.state}{reason}" + (f" ({copy.detail[:200]})" if copy.detail else "")
