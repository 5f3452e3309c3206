"""Everything that is known of one row: where it came from, every decision made on it, its side, and who was trained on it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.locate_rows import places_of_rows_that_begin
from tasks.dataset.rendered import read_left_out
from tasks.errors import DataError
from tasks.lineage.version_data import begun_with, left_out_of, parts_of, registered_versions
from tasks.records.parse import read_raw, to_rows
from tasks.state.decisions import Decision, excluded_batches, read_decisions
from tasks.state.erasures import read_erasures
from tasks.state.manifest import Batch, read_manifest

LEAST_CHARACTERS = 6
INHERITED = "in the weights that it began with"
LEFT_OUT = "left out of training and tests"
IN_WEIGHTS = ("train", INHERITED)


@dataclass
class Copy:
    """One record that became this row: a row may have come in several batches."""

    batch: str
    source: str
    file: str
    line: int
    state: str
    """`kept`, `left out` (by render), `dropped` (by curate), `refused` (by validate), `excluded`; `accepted`, `collected` (the next
    room has not run)."""
    reason: str = ""
    room: str = ""
    detail: str = ""
    """What it was dropped for: the other row's id, or the offending value."""
    split: str = ""
    group: str = ""
    """The id of the earlier row whose side it took."""


@dataclass
class Why:
    row_id: str
    content: dict[str, Any]
    """The row as it came."""
    copies: list[Copy]
    decisions: list[Decision]
    versions: dict[int, str] = field(default_factory=dict)
    """Registered version → the row's split in its dataset, or LEFT_OUT. Trained on it: those where that is `train`."""


def why(start: str, model: str) -> Why:
    """What is known of the row whose id begins so.

    Raises:
        DataError: no row's id does, or several do.
    """
    row_id, places = find_row(start)
    decisions = read_decisions()
    batches = {batch.batch: batch for batch in read_manifest()}
    copies: list[Copy] = []
    content: dict[str, Any] = {}
    for name in sorted(places, key=lambda each: batches[each].ordinal):
        batch = batches[name]
        for copy, row in _copies(batch, row_id, places[name], excluded_batches(decisions)):
            copies.append(copy)
            content = content or row
    mine = [each for each in decisions if each.which in (row_id, *places)]
    return Why(row_id, content, copies, mine, versions_with({row_id}, model).get(row_id, {}))


def versions_with(row_ids: set[str], model: str) -> dict[str, dict[int, str]]:
    """Row id → version → its split there, of every registered version whose data can be read.

    A version that was trained on from one that saw the row, or was taught by it, has it in its weights: INHERITED.
    """
    found: dict[str, dict[int, str]] = {}
    wanted = pa.array(sorted(row_ids), pa.string())
    for version in registered_versions(model):
        for part in parts_of(model, str(version)).values():
            rows = part.rows.filter(pc.is_in(part.rows["row_id"], wanted)).select(["row_id", "split"])
            for row in rows.to_pylist():
                found.setdefault(row["row_id"], {})[version] = row["split"]
        for row_id in left_out_of(model, version, {each for each in found if version in found[each]}):
            found[row_id][version] = LEFT_OUT
        for earlier in begun_with(model, version):
            for splits in found.values():
                if splits.get(earlier) in IN_WEIGHTS:
                    splits.setdefault(version, INHERITED)
    return found


def find_row(start: str) -> tuple[str, dict[str, set[int]]]:
    """The whole id, and where it stands: batch → places; nowhere, if it was erased."""
    start = start.lower()
    if len(start) < LEAST_CHARACTERS:
        raise DataError(
            "is too short to name a row", where=start, fix=f"Give {LEAST_CHARACTERS} characters of its id or more"
        )
    found = places_of_rows_that_begin(start)
    if (erased := _erased(start)) and not _has_text(found.get(erased, {})):
        return erased, {}
    if len(found) != 1:
        what = (
            "no row's id begins so" if not found else f"{len(found)} rows' ids begin so: {', '.join(sorted(found)[:3])}"
        )
        fix = "See ids: strop quarantine list, strop data diff" if not found else "Give more of it"
        raise DataError(what, where=start, fix=fix)
    return next(iter(found.items()))


def _has_text(places: dict[str, set[int]]) -> bool:
    """Does one of the records still say something? A record that came after the erasure may hold the same row."""
    batches = {batch.batch: batch for batch in read_manifest()}
    for name, indices in places.items():
        raw = read_raw(batches[name], check=False).take(pa.array(sorted(indices)))
        if raw["record"].null_count < len(indices) or raw["raw"].null_count < len(indices):
            return True
    return False


def _erased(start: str) -> str | None:
    """The id of the erased row that begins so: nothing of it is left, but who was trained on it is still known."""
    ids = {row_id for each in read_erasures() for row_id in each.ids if row_id.startswith(start)}
    return ids.pop() if len(ids) == 1 else None


def _copies(batch: Batch, row_id: str, places: set[int], excluded: set[str]) -> list[tuple[Copy, dict[str, Any]]]:
    known = sorted(places)
    rows = to_rows(read_raw(batch, check=False).take(pa.array(known)), batch, known).to_pylist()
    found = []
    for row in rows:
        copy = Copy(batch.batch, batch.source, row["file"], row["line"], "collected")
        if _line(paths.VALIDATED / batch.part, row_id, row["index"]):
            copy.state = "accepted"
        for room in ("validate", "curate"):
            if line := _line(paths.QUARANTINE / room / batch.part, row_id, row["index"]):
                copy.state = "refused" if room == "validate" else "dropped"
                copy.room, copy.reason, copy.detail = room, line["reason"], line["value"] or ""
        if copy.state == "accepted" and (line := _line(paths.CURATED / batch.part, row_id, row["index"])):
            copy.state, copy.split, copy.group = "kept", line["split"], line["group"]
            for out in read_left_out(row_ids={row_id}).to_pylist():
                copy.state, copy.room = "left out", "render"
                copy.reason, copy.detail = out["reason"], out["detail"]
        if batch.batch in excluded:
            copy.state = "excluded"
        found.append((copy, row))
    return found


def _line(path: Path, row_id: str, index: int) -> dict[str, Any] | None:
    if not path.exists():
        return None
    table = pq.read_table(path)
    rows = table.filter(pc.and_(pc.equal(table["row_id"], row_id), pc.equal(table["index"], index))).to_pylist()
    return rows[0] if rows else None
