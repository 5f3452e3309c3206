"""quarantine: every row that was refused or dropped, with its reason; look at one, release it, or drop it for good."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer

from flows.commands.common import Json, Why, console, enter_root, print_json
from tasks.errors import DataError

app = typer.Typer(help="Rows that were refused or dropped, and why.", no_args_is_help=True)

Row = Annotated[str, typer.Argument(help="The row's id, or its first characters.")]


@app.command("list")
def list_rows(
    reason: Annotated[str | None, typer.Option(help="Only this reason.")] = None,
    source: Annotated[str | None, typer.Option(help="Only this source.")] = None,
    room: Annotated[str | None, typer.Option(help="Only what this room refused: validate or curate.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most this many rows.")] = 20,
    as_json: Json = False,
) -> int:
    """The refused rows, and how many there are of each reason."""
    enter_root()
    wanted = {"reason": reason, "source": source, "room": room}
    rows = [
        row for row in read_quarantine() if all(value is None or row[key] == value for key, value in wanted.items())
    ]
    if as_json:
        print_json({"rows": len(rows), "reasons": _count(rows), "shown": rows[:limit]})
        return 0
    if not rows:
        console().print("Nothing is in quarantine.")
        return 0
    from rich.table import Table
    from rich.text import Text

    counts = Table.grid(padding=(0, 2))
    for (where, why), count in _count_pairs(rows):
        counts.add_row(f"{count:,}", f"[bold]{why}[/]", f"[dim]{where}[/]")
    console().print(counts)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("row", "reason", "where", "value"):
        table.add_column(name, no_wrap=True, overflow="ellipsis")
    for row in rows[:limit]:
        place = f"{row['file']}:{row['line']}"
        table.add_row(row["row_id"][:12], row["reason"], Text(place), Text(" ".join((row["value"] or "").split())[:60]))
    console().print()
    console().print(table)
    if len(rows) > limit:
        console().print(f"[dim]… and {len(rows) - limit:,} more: --limit {len(rows)}[/]")
    console().print("\nLook at one: [bold]strop quarantine show ROW[/]")
    return 0


@app.command()
def show(row: Row, as_json: Json = False) -> int:
    """One refused row: where it came from, why it was refused, and the whole record."""
    enter_root()
    found = _find(row)
    if as_json:
        print_json(found)
        return 0
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for name in ("row_id", "room", "batch", "source", "file", "line", "reason", "field", "value"):
        table.add_row(f"[dim]{name}[/]", Text(str(found[name] if found[name] is not None else "")))
    console().print(table)
    console().print("\n[dim]record[/]")
    console().print(Text(_pretty(found["record"])))
    return 0


@app.command()
def release(row: Row, why: Why = "", as_json: Json = False) -> int:
    """Accept a row that the contract refused, from the next run on."""
    return _decide("release", row, why, as_json)


@app.command()
def drop(row: Row, why: Why = "", as_json: Json = False) -> int:
    """Take back a release: refuse the row for good."""
    return _decide("drop", row, why, as_json)


def read_quarantine() -> list[dict[str, Any]]:
    """Every row in quarantine, the newest batch first, with the room that refused it."""
    import pyarrow.parquet as pq

    from tasks import paths

    rows = []
    for room in ("validate", "curate"):
        for path in sorted((paths.QUARANTINE / room).glob("*.parquet"), reverse=True):
            rows += [{"room": room, **row} for row in pq.read_table(path).to_pylist()]
    return rows


def _decide(what: Any, row: str, why: str, as_json: bool) -> int:
    enter_root()
    from tasks.decisions import record_decision

    found = _find(row)
    if found["room"] != "validate":
        raise DataError(
            "was dropped by curate, not by the contract", where=f"row {found['row_id']}", fix="Mend its source"
        )
    decision = record_decision(what, found["row_id"], why or "by hand")
    if as_json:
        print_json(asdict(decision))
    else:
        told = "released" if what == "release" else "dropped for good"
        console().print(f"Row {found['row_id']} is {told}. The next run goes by it: [bold]strop run[/]")
    return 0


def _find(start: str) -> dict[str, Any]:
    found = {row["row_id"]: row for row in reversed(read_quarantine()) if row["row_id"].startswith(start.lower())}
    if len(found) != 1:
        what = "no such row in quarantine" if not found else f"{len(found)} rows begin so"
        raise DataError(what, where=f"row {start}", fix="See: strop quarantine list")
    return next(iter(found.values()))


def _count(rows: list[dict[str, Any]]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for (_, reason), count in _count_pairs(rows):
        counts[reason] = counts.get(reason, 0) + count
    return counts


def _count_pairs(rows: list[dict[str, Any]]) -> list[tuple[tuple[str, str], int]]:
    from collections import Counter

    return Counter((row["room"], row["reason"]) for row in rows).most_common()


def _pretty(record: str | None) -> str:
    try:
        return json.dumps(json.loads(record or ""), ensure_ascii=False, indent=2)
    except ValueError:
        return record or ""
