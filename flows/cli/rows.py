"""rows: the history of a row, and removal of rows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.common import Json, Row, Why, as_text, console, enter_project, print_json
from tasks.errors import DataError
from tasks.runtime.plurals import count_of

app = typer.Typer(help="Single rows: the history of a row; forget rows.", no_args_is_help=True)


@app.command()
def why(row: Row, as_json: Json = False) -> None:
    """The origin of a row, the decisions on it, its split, and the versions that were trained on it."""
    config = enter_project()
    from flows.cli.row_history import print_history
    from tasks.lineage.row_history import row_history

    history = row_history(row, config.register_.model_name)
    if as_json:
        print_json(asdict(history))
        return
    print_history(history)


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
        typer.Option("--erase", help="Also remove their content from all files, caches and remotes. Cannot be undone."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the rows.")] = False,
    as_json: Json = False,
) -> None:
    """Leave rows out of all later versions, permanently. Lists the registered versions that were trained on them.

    With --erase their text is also removed from data/raw, from quarantine and rendered rows, from DVC's cache and its remotes; an
    audit then reports "lawfully erased, not rebuildable". Without rows, --erase completes an interrupted erasure.
    """
    config = enter_project()
    if erase and not rows and not where:
        _finish_erasing(dry_run)
        return
    if not why and not dry_run:
        fix = "Give one: --why 'requested by the person'"
        raise DataError("a reason is missing", where="strop rows forget", fix=fix)
    from tasks.erase.plan import rows_made_from
    from tasks.lineage.row_history import versions_with
    from tasks.lineage.select_rows import select_rows
    from tasks.state.decisions import record_decisions

    chosen = select_rows(rows or [], where or [])
    made = [row_id for row_id in rows_made_from(chosen) if row_id not in chosen]
    splits_by_row = versions_with({*chosen, *(made if erase else [])}, config.register_.model_name)
    trained = sorted({version for splits in splits_by_row.values() for version in splits})
    result: dict[str, Any] = {"rows": chosen, "made_from_them": made, "versions": trained, "is_recorded": not dry_run}
    if not dry_run and erase:
        result["erased"] = _erase(chosen, why)
    elif not dry_run:
        record_decisions("forget", chosen, why)
    if as_json:
        print_json(result)
        return
    out = console()
    verb = "erased" if erase else "forgotten"
    done = f"are {verb}; the next run leaves them out: [bold]strop run[/]"
    out.print(f"{len(chosen):,} rows {f'would be {verb}' if dry_run else done}")
    if made:
        fate = "are removed too" if erase else "stay: forget them too if necessary"
        names = ", ".join(made[:3]) + " …" * (len(made) > 3)
        out.print(f"{len(made):,} rows were generated from them and {fate}: {names}")
    if trained:
        out.print(f"Versions trained on them: {', '.join(f'v{version}' for version in trained)}")
    if erase and not dry_run:
        _report_remains(result["erased"], bool(trained))


def _erase(chosen: list[str], why: str) -> dict[str, Any]:
    from flows.runtime.lock import one_run_at_a_time
    from tasks.erase.stage import erase

    with one_run_at_a_time():
        erased = erase(chosen, why)
    if erased is None:
        return {"files": 0, "remotes": [], "reports": 0, "preferences": 0}
    names = ("files", "remotes", "reports", "preferences")
    return {name: getattr(erased, name) for name in names}


def _finish_erasing(dry_run: bool) -> None:
    from flows.runtime.lock import one_run_at_a_time
    from tasks.erase.plan import saved_plan
    from tasks.erase.stage import resume

    if dry_run and (plan := saved_plan()):
        console().print(f"The erasure of {len(plan.ids):,} rows was interrupted; without --dry-run it is completed")
        return
    with one_run_at_a_time():
        erased = resume()
    if erased is None:
        console().print("No erasure was interrupted. Select rows: strop rows forget ID --erase --why …")
    else:
        console().print(f"{len(erased.plan.ids):,} rows are erased: the erasure is complete")


def _report_remains(erased: dict[str, Any], is_in_weights: bool) -> None:
    where = ", ".join(["DVC's cache", *(f"remote {name}" for name in erased["remotes"])])
    out = console()
    files, reports = count_of(erased["files"], "file"), count_of(erased["reports"], "report")
    out.print(f"{files} contained them, in {where}; listed in data/erasures.jsonl: commit it")
    if erased["reports"]:
        out.print(f"{reports} of runs with their text or dataset were removed from MLflow")
    if erased["preferences"]:
        lines = count_of(erased["preferences"], "preference")
        out.print(f"{lines} for the judge with their text were removed from data/judges; git's history still has them")
    out.print("Not erased: their source, backups, other clones, and other registries.")
    if is_in_weights:
        out.print("Weights trained on them are unchanged: retrain, and retire those versions.")
