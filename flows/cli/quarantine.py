"""quarantine: all refused or dropped rows with their reason; list, show, export, release or drop them."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.common import Json, Row, Why, as_text, console, enter_root, print_grid, print_json
from flows.cli.quarantine_query import RowQuery, export, read_refused, why_not_releasable
from tasks.errors import DataError
from tasks.runtime.plurals import count_of
from tasks.runtime.visible_text import printable

if TYPE_CHECKING:
    import pyarrow as pa

ROW_WIDTH = 12
_ROW_ID = re.compile("[0-9a-f]{32}")

app = typer.Typer(help="Rows that were refused or dropped, and why.", no_args_is_help=True)

Rows = Annotated[
    list[str] | None, typer.Argument(metavar="[ROW]...", callback=as_text, help="Row ids, or their first characters.")
]
Reason = Annotated[str | None, typer.Option(callback=as_text, help="Only this reason.")]
Source = Annotated[str | None, typer.Option(callback=as_text, help="Only this source.")]
Batch = Annotated[str | None, typer.Option(callback=as_text, help="Only this batch: its id, or its first characters.")]
Room = Annotated[
    str | None, typer.Option(callback=as_text, help="Only rows left out by this room: validate, curate or render.")
]


@app.command("list")
def list_rows(
    reason: Reason = None,
    source: Source = None,
    batch: Batch = None,
    room: Room = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 20,
    as_json: Json = False,
) -> None:
    """List refused rows, and their number by reason."""
    enter_root()
    rows = read_refused(RowQuery(reason, source, batch, room))
    shown = rows.slice(0, limit).to_pylist()
    if as_json:
        counts: dict[str, int] = {}
        for _, why, count in _counts(rows):
            counts[why] = counts.get(why, 0) + count
        print_json({"rows": rows.num_rows, "reasons": counts, "shown": shown})
        return
    if not shown:
        console().print("Nothing is in quarantine.")
        return
    from rich.text import Text

    print_grid((f"{count:,}", Text(printable(why), "bold"), f"[dim]{room}[/]") for room, why, count in _counts(rows))
    _show_rows(shown)
    if rows.num_rows > limit:
        console().print(f"[dim]… and {rows.num_rows - limit:,} more: --limit {rows.num_rows}[/]")
    console().print("\nLook at one: [bold]strop quarantine show ROW[/]")


@app.command()
def show(row: Row, as_json: Json = False) -> None:
    """Show one refused row: its origin, the reason, and the record."""
    enter_root()
    refused = read_refused(RowQuery(rows=(row,)), with_records=True).slice(0, 1).to_pylist()[0]
    obstacle = why_not_releasable(refused)
    if as_json:
        print_json({**refused, "may_be_released": obstacle is None})
        return
    from rich.text import Text

    names = ("row_id", "room", "batch", "source", "file", "line", "reason", "field", "value")
    values = {name: printable(str(refused[name] if refused[name] is not None else "")) for name in names}
    values |= {"release": f"not possible: {obstacle}"} if obstacle else {}
    print_grid((f"[dim]{name}[/]", Text(value)) for name, value in values.items())
    console().print("\n[dim]record[/]")
    console().print(Text(printable(_pretty(refused["record"]))))


@app.command("export")
def export_rows(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new .jsonl or .csv file.")],
    rows: Rows = None,
    reason: Reason = None,
    source: Source = None,
    batch: Batch = None,
    room: Room = None,
    as_json: Json = False,
) -> None:
    """Write refused rows with their records to a file, to review them, or to fix and collect them again."""
    enter_root()
    refused = read_refused(RowQuery(reason, source, batch, room, tuple(rows or ())), with_records=True)
    if not refused.num_rows:
        raise DataError("no refused row matches", fix="See: strop quarantine list")
    export(refused, to)
    if as_json:
        print_json({"rows": refused.num_rows, "file": str(to)})
    else:
        console().print(f"{refused.num_rows:,} rows are in {to}.", markup=False)


def _decide(what: Literal["release", "drop"], query: RowQuery, why: str, as_json: bool) -> None:
    """Records a decision for each selected row, except rows that cannot be released."""
    if not why.strip():
        raise typer.BadParameter("a reason is missing: --why TEXT")
    if query == RowQuery():
        raise typer.BadParameter("select rows: by id, --reason, --source or --batch")
    enter_root()
    from tasks.state.decisions import decided_rows, read_decisions, record_decisions

    refused = read_refused(query, with_records=what == "release").to_pylist()
    if not refused:
        raise DataError("no refused row matches", fix="See: strop quarantine list")
    kept = {row["row_id"]: obstacle for row in refused if what == "release" and (obstacle := why_not_releasable(row))}
    chosen = list(dict.fromkeys(row["row_id"] for row in refused if row["row_id"] not in kept))
    if not chosen:
        message = f"cannot be released: {next(iter(kept.values()))}"
        raise DataError(message, where=f"row {refused[0]['row_id']}" if len(kept) == 1 else f"{len(kept):,} rows")
    already = decided_rows(read_decisions(), what)
    decisions = record_decisions(what, [row_id for row_id in chosen if row_id not in already], why)
    if as_json:
        recorded = [asdict(decision) for decision in decisions]
        print_json({"decisions": recorded, "already": len(chosen) - len(decisions), "kept": kept})
        return
    state = "released" if what == "release" else "dropped permanently"
    rows = f"Row {chosen[0]} is" if len(chosen) == 1 else f"{len(chosen):,} rows are"
    console().print(f"{rows} {state}. Apply this: [bold]strop run[/]")
    for reason, number in Counter(kept.values()).items():
        console().print(f"{count_of(number, 'row')} cannot be released: {reason}.", markup=False)


def _decision_command(what: Literal["release", "drop"]) -> Callable[..., None]:
    """Makes a command that records this decision: both have the same options."""

    def decide(
        why: Why,
        rows: Rows = None,
        reason: Reason = None,
        source: Source = None,
        batch: Batch = None,
        as_json: Json = False,
    ) -> None:
        _decide(what, RowQuery(reason, source, batch, None, tuple(rows or ())), why, as_json)

    return decide


app.command("release", help="Accept refused rows, from the next run on.")(_decision_command("release"))
DROP_HELP = "Refuse rows permanently, whatever the contract says; or revoke a release."
app.command("drop", help=DROP_HELP)(_decision_command("drop"))


def _counts(rows: pa.Table) -> list[tuple[str, str, int]]:
    """(room, reason, rows), the most frequent first."""
    counted = rows.group_by(["room", "reason"]).aggregate([([], "count_all")]).to_pylist()
    counts = [(group["room"], group["reason"], group["count_all"]) for group in counted]
    return sorted(counts, key=lambda count: (-count[2], count[1]))


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from rich.table import Column
    from rich.text import Text

    from tasks.runtime.console import table_of

    widest = max(len(printable(row["reason"])) for row in rows)
    rest = max(console().width - ROW_WIDTH - widest - 6, 16)  # for the other columns, without padding
    widths = {"row": ROW_WIDTH, "reason": widest, "where": rest // 2, "value": rest - rest // 2}
    columns = (Column(name, no_wrap=True, overflow="ellipsis", max_width=width) for name, width in widths.items())
    table = table_of(*columns)
    for row in rows:
        location = f"{row['file']}:{row['line']}"
        value = " ".join(printable(_value_of(row)).split())[:60]
        table.add_row(row["row_id"][:ROW_WIDTH], Text(printable(row["reason"])), Text(printable(location)), Text(value))
    console().print()
    console().print(table)


def _value_of(row: dict[str, Any]) -> str:
    """The offending value, or the other row for duplicates."""
    value = row["value"] or ""
    if value == row["row_id"]:
        return "duplicate of an earlier row"
    return f"row {value[:12]}" if _ROW_ID.fullmatch(value) else value


def _pretty(record: str | None) -> str:
    try:
        return json.dumps(json.loads(record or ""), ensure_ascii=False, indent=2)
    except ValueError:
        return record or ""
