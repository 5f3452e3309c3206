"""data: the dataset's versions and batches; exclude a batch, or include it again. Recorded and reversible."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.cli.common import Json, Why, as_text, console, enter_project, enter_root, print_json
from tasks.errors import DataError

app = typer.Typer(
    help="The dataset: its versions and batches; exclude a batch, or include it again.", no_args_is_help=True
)

Batch = Annotated[str, typer.Argument(callback=as_text, help="The batch's id, or its first characters.")]


@app.command()
def versions(as_json: Json = False) -> None:
    """The dataset of every model version, and the present dataset."""
    config = enter_project()
    from tasks.model_store.ledger import read_ledger
    from tasks.vcs.dvc_outputs import dataset_version
    from tasks.vcs.dvc_pipeline import unrecorded_dataset

    judged = [entry for entry in read_ledger(config.register_.model_name) if entry.kind == "judged"]
    recorded, unrecorded = dataset_version(), unrecorded_dataset()
    now = unrecorded or recorded
    if as_json:
        rows = [{"version": e.version, "dataset": e.dataset, "when": e.when, "test_rows": e.test_rows} for e in judged]
        print_json({"now": now, "recorded": recorded, "versions": rows})
        return
    from tasks.runtime.console import table_of

    table = table_of("dataset", "version", "when (UTC)", "test rows")
    for entry in judged:
        table.add_row(entry.dataset, f"v{entry.version}", entry.when.replace("T", " ")[:16], f"{entry.test_rows:,}")
    table.add_row(now or "none yet", "[bold]now[/]", "", "")
    console().print(table)
    if unrecorded:
        lock = f"dvc.lock, which has {recorded or 'none yet'}"
        console().print(f"The dataset in data/curated is not in {lock}. Record it: [bold]strop run[/]")


@app.command()
def batches(as_json: Json = False) -> None:
    """Every collected batch, in order of arrival."""
    enter_root()
    batches = _batches()
    if as_json:
        print_json(batches)
        return
    from rich.markup import escape
    from rich.table import Column

    from tasks.runtime.console import table_of
    from tasks.runtime.visible_text import printable

    last = ["not used"] if any(batch["unused"] for batch in batches) else []
    numbers = (Column(name, justify="right") for name in ("rows", "refused"))
    table = table_of("batch", "source", *numbers, "state", *last)
    styles = {"excluded": "yellow", "set_aside": "red"}
    for batch in batches:
        state = batch["state"]
        refused = "" if batch["refused"] is None else f"{batch['refused']:,}"
        styled = f"[{styles.get(state, 'green')}]{state.replace('_', ' ')}[/]"
        unused = [escape(printable(", ".join(batch["unused"])))] if batch["unused"] else []
        table.add_row(batch["batch"], batch["source"], f"{batch['rows']:,}", refused, styled, *unused)
    console().print(table)


@app.command()
def exclude(batch: Batch, why: Why = "", as_json: Json = False) -> None:
    """Exclude a batch from the dataset, from the next run on."""
    _decide("exclude", batch, why, as_json)


@app.command()
def include(batch: Batch, why: Why = "", as_json: Json = False) -> None:
    """Include an excluded batch again, from the next run on."""
    _decide("include", batch, why, as_json)


@app.command()
def reread(
    source: Annotated[str, typer.Argument(callback=as_text, help="The source's name.")], as_json: Json = False
) -> None:
    """Read a source's collected records again, with its present shape, family, columns, language and use."""
    config = enter_project()
    from tasks.ingest.changes.intact import require_intact
    from tasks.ingest.changes.reread import reread as read_again
    from tasks.vcs.dvc_pipeline import add_raw

    declared = {entry.name: entry for entry in config.ingest.sources}
    if source not in declared:
        raise DataError("no such source", where=f"source {source}", fix=f"There are: {', '.join(declared) or 'none'}")
    require_intact()
    done = read_again(declared[source])
    if done.batches:
        add_raw()
    if as_json:
        print_json(asdict(done))
        return
    from rich.text import Text

    from tasks.runtime.plurals import count_of

    out = console()
    left = count_of(done.excluded_before, "batch", "batches")
    if done.excluded_before:
        out.print(f"{left} of it stay excluded; to read them too, first: strop data include BATCH", markup=False)
    if not done.batches:
        out.print(Text(f"All batches of {source} were read with its present settings; nothing to do."))
        return
    what = f"{count_of(done.rows, 'row')} in {count_of(len(done.batches), 'batch', 'batches')} of {source}"
    out.print(Text(f"{what} are read again: {', '.join(done.changed)}."))
    if done.carried:
        decisions = count_of(done.carried, "decision")
        out.print(f"{decisions} to drop or forget rows were copied to the new row ids.", markup=False)
    out.print("The older batches are excluded. Apply this: [bold]strop run[/]")


def _decide(what: Any, batch: str, why: str, as_json: bool) -> None:
    enter_root()
    from tasks.state.decisions import excluded_batches, read_decisions, record_decision

    batch_id = _full_id(batch)
    if (batch_id in excluded_batches(read_decisions())) == (what == "exclude"):
        raise DataError(f"is {what}d already", where=f"batch {batch_id}", fix="See: strop data batches")
    decision = record_decision(what, batch_id, why or "by hand")
    if as_json:
        print_json(asdict(decision))
    else:
        console().print(f"Batch {batch_id} is {what}d. Apply this: [bold]strop run[/]")


def _full_id(start: str) -> str:
    from tasks.state.manifest import read_manifest

    matches = [batch.batch for batch in read_manifest() if batch.batch.startswith(start.lower())]
    if len(matches) != 1:
        what = "no such batch" if not matches else f"{len(matches)} batches match"
        raise DataError(what, where=f"batch {start}", fix="See: strop data batches")
    return matches[0]


def _batches() -> list[dict[str, Any]]:
    from tasks import paths
    from tasks.records.raw_notes import notes_of
    from tasks.runtime.files import read_json
    from tasks.state.decisions import excluded_batches, read_decisions
    from tasks.state.manifest import read_manifest

    report = read_json(paths.VALIDATE_REPORT)["batches"] if paths.VALIDATE_REPORT.exists() else []
    validated = {entry["batch"]: entry for entry in report}
    excluded = excluded_batches(read_decisions())
    entries = []
    for batch in read_manifest():
        entry = validated.get(batch.batch, {})
        state = "excluded" if batch.batch in excluded else entry.get("state", "not validated yet")
        facts = {"batch": batch.batch, "source": batch.source, "rows": batch.rows}
        unused = list(notes_of(batch.path).unused)
        entries.append({**facts, "refused": entry.get("refused"), "state": state, "unused": unused})
    return entries
