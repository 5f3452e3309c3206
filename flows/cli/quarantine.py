"""quarantine: every row that was refused or dropped, with its reason; look, take some away to mend, release, or drop them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from flows.cli.common import Json, Why, as_text, console, enter_root, print_json
from flows.cli.quarantine_query import Wanted, export, read_refused, why_kept
from tasks.errors import DataError
from tasks.runtime.visible_text import shown

if TYPE_CHECKING:
    import pyarrow as pa

ROW_WIDTH = 12
_ROW_ID = re.compile("[0-9a-f]{32}")

app = typer.Typer(help="Rows that were refused or dropped, and why.", no_args_is_help=True)

Row = Annotated[str, typer.Argument(callback=as_text, help="The row's id, or its first characters.")]
Rows = Annotated[
    list[str] | None, typer.Argument(metavar="[ROW]...", callback=as_text, help="Row ids, or their first characters.")
]
Reason = Annotated[str | None, typer.Option(callback=as_text, help="Only this reason.")]
Source = Annotated[str | None, typer.Option(callback=as_text, help="Only this source.")]
Batch = Annotated[str | None, typer.Option(callback=as_text, help="Only this batch: its id, or its first characters.")]
Room = Annotated[
    str | None, typer.Option(callback=as_text, help="Only what this room left out: validate, curate or render.")
]


@app.command("list")
def list_rows(
    reason: Reason = None,
    source: Source = None,
    batch: Batch = None,
    room: Room = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 20,
    as_json: Json = False,
) -> int:
    """The refused rows, and how many there are of each reason."""
    enter_root()
    rows = read_refused(Wanted(reason, source, batch, room))
    shown = rows.slice(0, limit).to_pylist()
    if as_json:
        counts: dict[str, int] = {}
        for _, why, count in _counts(rows):
            counts[why] = counts.get(why, 0) + count
        print_json({"rows": rows.num_rows, "reasons": counts, "shown": shown})
        return 0
    if not shown:
        console().print("Nothing is in quarantine.")
        return 0
    _show_counts(rows)
    _show_rows(shown)
    if rows.num_rows > limit:
        console().print(f"[dim]… and {rows.num_rows - limit:,} more: --limit {rows.num_rows}[/]")
    console().print("\nLook at one: [bold]strop quarantine show ROW[/]")
    return 0


@app.command()
def show(row: Row, as_json: Json = False) -> int:
    """One refused row: where it came from, why it was refused, and the whole record."""
    enter_root()
    found = read_refused(Wanted(rows=(row,)), with_records=True).slice(0, 1).to_pylist()[0]
    kept = why_kept(found)
    if as_json:
        print_json({**found, "may_be_released": kept is None})
        return 0
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name in ("row_id", "room", "batch", "source", "file", "line", "reason", "field", "value"):
        table.add_row(f"[dim]{name}[/]", Text(shown(str(found[name] if found[name] is not None else ""))))
    if kept:
        table.add_row("[dim]release[/]", Text(f"not possible: {kept}"))
    console().print(table)
    console().print("\n[dim]record[/]")
    console().print(Text(shown(_pretty(found["record"]))))
    return 0


@app.command("export")
def export_rows(
    to: Annotated[Path, typer.Argument(metavar="FILE", help="A new .jsonl or .csv file.")],
    rows: Rows = None,
    reason: Reason = None,
    source: Source = None,
    batch: Batch = None,
    room: Room = None,
    as_json: Json = False,
) -> int:
    """Write refused rows, whole records and all, to a file: to look through, or to mend and collect again."""
    enter_root()
    found = read_refused(Wanted(reason, source, batch, room, tuple(rows or ())), with_records=True)
    if not found.num_rows:
        raise DataError("no refused row is like that", fix="See: strop quarantine list")
    export(found, to)
    if as_json:
        print_json({"rows": found.num_rows, "file": str(to)})
    else:
        console().print(f"{found.num_rows:,} rows are in {to}.", markup=False)
    return 0


def _decide(what: Literal["release", "drop"], wanted: Wanted, why: str, as_json: bool) -> int:
    """Records a decision on each row asked for, but for those that it cannot hold of."""
    if not why.strip():
        raise typer.BadParameter("say why: --why TEXT")
    if wanted.is_everything:
        raise typer.BadParameter("name rows, or say which: --reason, --source, --batch")
    enter_root()
    from tasks.state.decisions import decided_rows, read_decisions, record_decisions

    found = read_refused(wanted, with_records=what == "release").to_pylist()
    if not found:
        raise DataError("no refused row is like that", fix="See: strop quarantine list")
    kept = {row["row_id"]: told for row in found if what == "release" and (told := why_kept(row))}
    chosen = list(dict.fromkeys(row["row_id"] for row in found if row["row_id"] not in kept))
    if not chosen:
        told = f"cannot be released: {next(iter(kept.values()))}"
        raise DataError(told, where=f"row {found[0]['row_id']}" if len(kept) == 1 else f"{len(kept):,} rows")
    already = decided_rows(read_decisions(), what)
    decisions = record_decisions(what, [row_id for row_id in chosen if row_id not in already], why)
    if as_json:
        print_json(
            {"decisions": [asdict(each) for each in decisions], "already": len(chosen) - len(decisions), "kept": kept}
        )
        return 0
    told = "released" if what == "release" else "dropped for good"
    rows = f"Row {chosen[0]} is" if len(chosen) == 1 else f"{len(chosen):,} rows are"
    console().print(f"{rows} {told}. The next run goes by it: [bold]strop run[/]")
    for reason in dict.fromkeys(kept.values()):
        console().print(
            f"{list(kept.values()).count(reason):,} stay, for they cannot be released: {reason}.", markup=False
        )
    return 0


def _deciding(what: Literal["release", "drop"]) -> Callable[..., int]:
    """A command that records this decision: both take the same options."""

    def decide(
        why: Why,
        rows: Rows = None,
        reason: Reason = None,
        source: Source = None,
        batch: Batch = None,
        as_json: Json = False,
    ) -> int:
        return _decide(what, Wanted(reason, source, batch, None, tuple(rows or ())), why, as_json)

    return decide


app.command("release", help="Accept rows that were refused, from the next run on.")(_deciding("release"))
app.command("drop", help="Refuse rows for good, whatever the contract will say; or take back a release.")(
    _deciding("drop")
)


def _counts(rows: pa.Table) -> list[tuple[str, str, int]]:
    """(room, reason, rows), the most frequent first."""
    counted = rows.group_by(["room", "reason"]).aggregate([([], "count_all")]).to_pylist()
    found = [(each["room"], each["reason"], each["count_all"]) for each in counted]
    return sorted(found, key=lambda each: (-each[2], each[1]))


def _show_counts(rows: pa.Table) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for room, reason, count in _counts(rows):
        table.add_row(f"{count:,}", Text(shown(reason), "bold"), f"[dim]{room}[/]")
    console().print(table)


def _show_rows(rows: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    widest = max(len(shown(row["reason"])) for row in rows)
    left = max(console().width - ROW_WIDTH - widest - 6, 16)  # for the others, beside what lies between columns
    for name, width in (("row", ROW_WIDTH), ("reason", widest), ("where", left // 2), ("value", left - left // 2)):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=width)
    for row in rows:
        place = f"{row['file']}:{row['line']}"
        value = " ".join(shown(_value_of(row)).split())[:60]
        table.add_row(row["row_id"][:ROW_WIDTH], Text(shown(row["reason"])), Text(shown(place)), Text(value))
    console().print()
    console().print(table)


def _value_of(row: dict[str, Any]) -> str:
    """The offending value; the other row, where that is what the row was dropped for."""
    value = row["value"] or ""
    if value == row["row_id"]:
        return "an equal row came before"
    return f"row {value[:12]}" if _ROW_ID.fullmatch(value) else value


def _pretty(record: str | None) -> str:
    try:
        return json.dumps(json.loads(record or ""), ensure_ascii=False, indent=2)
    except ValueError:
        return record or ""
