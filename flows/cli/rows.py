"""rows: what is known of a row, and rows that must go."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.common import Json, Why, as_text, console, enter_project, print_json
from tasks.errors import DataError
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import shown

app = typer.Typer(help="Single rows: where one came from and what became of it; forget one.", no_args_is_help=True)

Row = Annotated[str, typer.Argument(callback=as_text, help="The row's id, or its first characters.")]


@app.command()
def why(row: Row, as_json: Json = False) -> int:
    """Where a row came from, every decision made on it, its side, and which versions were trained on it."""
    config = enter_project()
    from tasks.lineage.row_history import IN_WEIGHTS, LEFT_OUT, row_history

    found = row_history(row, config.register_.model_name)
    if as_json:
        print_json(asdict(found))
        return 0
    from rich.text import Text

    out = console()
    out.print(f"[bold]{found.row_id}[/]")
    if not found.copies:
        out.print("  was erased: nothing of its text is left")
    for name in ("family", "language", "system", "instruction", "input", "output"):
        if text := found.content.get(name):
            out.print(Text.assemble((f"  {name:<12}", "dim"), " ".join(shown(str(text)).split())[:300]))
    for copy in found.copies:
        out.print(Text(f"\ncame in {copy.file} line {copy.line}, source {copy.source}, batch {copy.batch}"))
        out.print(Text(f"  {_told(copy)}"))
    for each in found.decisions:
        out.print(Text(f"  {each.when[:16].replace('T', ' ')}  {each.what} by {each.who}: {each.why}"))
    trained = [f"v{version}" for version, split in found.versions.items() if split in IN_WEIGHTS]
    tested = [f"v{version}" for version, split in found.versions.items() if split not in (*IN_WEIGHTS, LEFT_OUT)]
    left = [f"v{version}" for version, split in found.versions.items() if split == LEFT_OUT]
    held = f"held it out: {', '.join(tested) or 'no version'}" + (f" · left it out: {', '.join(left)}" if left else "")
    out.print(f"\ntrained on it: {', '.join(trained) or 'no version'} · {held}")
    return 0


@app.command()
def forget(
    rows: Annotated[
        list[str] | None, typer.Argument(callback=as_text, help="Ids of rows, or their first characters.")
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(
            callback=as_text, help="FIELD=VALUE or FIELD~REGEX, such as source=support or input~Li Lei; all must hold."
        ),
    ] = None,
    why: Why = "",
    erase: Annotated[
        bool,
        typer.Option("--erase", help="Also take their bytes out of every file, cache and remote. Cannot be undone."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which rows it would be.")] = False,
    as_json: Json = False,
) -> int:
    """Leave rows out of every later version, for good. Says which registered versions were trained on them.

    With --erase their text also goes from data/raw, from quarantine and rendered rows, from DVC's cache and its remotes; an
    audit then answers "lawfully erased, not rebuildable". Without rows, --erase does the rest of an erasure that was cut short.
    """
    config = enter_project()
    if erase and not rows and not where:
        return _finish_erasing(dry_run)
    if not why and not dry_run:
        raise DataError("a reason is missing", where="strop rows forget", fix="Say it: --why 'asked to by the person'")
    from tasks.erase.plan import rows_made_from
    from tasks.lineage.row_history import versions_with
    from tasks.lineage.select_rows import select_rows
    from tasks.state.decisions import record_decisions

    chosen = select_rows(rows or [], where or [])
    made = [row_id for row_id in rows_made_from(chosen) if row_id not in chosen]
    seen = versions_with({*chosen, *(made if erase else [])}, config.register_.model_name)
    trained = sorted({version for splits in seen.values() for version in splits})
    told: dict[str, Any] = {"rows": chosen, "made_from_them": made, "versions": trained, "is_recorded": not dry_run}
    if not dry_run and erase:
        told["erased"] = _erase(chosen, why)
    elif not dry_run:
        record_decisions("forget", chosen, why)
    if as_json:
        print_json(told)
        return 0
    out = console()
    verb = "erased" if erase else "forgotten"
    out.print(
        f"{len(chosen):,} rows would be {verb}"
        if dry_run
        else f"{len(chosen):,} rows are {verb}; the next run leaves them out: [bold]strop run[/]"
    )
    if made:
        fate = "go with them" if erase else "stay: forget them too if they must go"
        out.print(f"{len(made):,} rows were made from them and {fate}: {', '.join(made[:3])}{' …' * (len(made) > 3)}")
    if trained:
        out.print(f"These versions hold them: {', '.join(f'v{version}' for version in trained)}")
    if erase and not dry_run:
        _tell_of_what_is_left(told["erased"], bool(trained))
    return 0


def _erase(chosen: list[str], why: str) -> dict[str, Any]:
    from flows.runtime.lock import one_run_at_a_time
    from tasks.erase.stage import erase

    with one_run_at_a_time(), contextlib.redirect_stdout(sys.stderr):  # progress is no answer
        erased = erase(chosen, why)
    return {"files": erased.files, "remotes": erased.remotes} if erased else {"files": 0, "remotes": []}


def _finish_erasing(dry_run: bool) -> int:
    from flows.runtime.lock import one_run_at_a_time
    from tasks.erase.plan import saved_plan
    from tasks.erase.stage import resume

    if dry_run and (plan := saved_plan()):
        console().print(f"The erasing of {len(plan.ids):,} rows was cut short; without --dry-run the rest is done")
        return 0
    with one_run_at_a_time():
        erased = resume()
    if erased is None:
        console().print("No erasure was cut short. Say which rows: strop rows forget ID --erase --why …")
    else:
        console().print(f"{len(erased.plan.ids):,} rows are erased: the rest is done")
    return 0


def _tell_of_what_is_left(erased: dict[str, Any], is_in_weights: bool) -> None:
    where = ", ".join(["DVC's cache", *(f"remote {name}" for name in erased["remotes"])])
    out = console()
    out.print(f"{count_of(erased['files'], 'file')} held them, in {where}; data/erasures.jsonl says which: commit it")
    out.print("Strop does not reach their source, backups, clones elsewhere, and other registries.")
    if is_in_weights:
        out.print("Weights that were trained on them stay as they are: retrain, and retire those versions.")


def _told(copy: Any) -> str:
    if copy.state == "kept":
        return f"kept, on the {copy.split} side" + (f", as it follows {copy.group}" if copy.group else "")
    if copy.state == "left out":
        rule = f" ({copy.detail})" if copy.detail else ""
        return f"kept on the {copy.split} side, but left out by render: {copy.reason}{rule}"
    reason = f" by {copy.room}: {copy.reason}" if copy.reason else ""
    return f"{copy.state}{reason}" + (f" ({copy.detail[:200]})" if copy.detail else "")
