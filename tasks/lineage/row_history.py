"""The history of a row: its origin, every decision on it, its split, and the versions that were trained on it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks import paths
from tasks.dataset.locate_rows import locate_rows_by_prefix
from tasks.dataset.rendered import read_left_out
from tasks.errors import DataError
from tasks.lineage.version_data import ancestors_of, left_out_of, parts_of, registered_versions
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
    """One record of this row: a row may occur in several batches."""

    batch: str
    source: str
    file: str
    line: int
    state: str
    """`kept`, `left out` (by render), `dropped` (by curate), `refused` (by validate), `excluded`; or `accepted`,
    `collected` before the next room has run."""
    reason: str = ""
    room: str = ""
    detail: str = ""
    """Details of the reason: the other row's id, or the offending value."""
    split: str = ""
    group: str = ""
    """The id of the earlier row that decided its split."""


@dataclass
class RowHistory:
    row_id: str
    content: dict[str, Any]
    """The row as it was collected."""
    copies: list[Copy]
    decisions: list[Decision]
    versions: dict[int, str] = field(default_factory=dict)
    """Registered version → the row's split in its dataset, or LEFT_OUT. Versions with `train` were trained on it."""


def row_history(start: str, model: str) -> RowHistory:
    """The history of the row whose id begins with `start`.

    Raises:
        DataError: no id, or more than one, begins so.
    """
    row_id, records = find_row(start)
    decisions = read_decisions()
    batches = {batch.batch: batch for batch in read_manifest()}
    copies: list[Copy] = []
    content: dict[str, Any] = {}
    for name in sorted(records, key=lambda name: batches[name].ordinal):
        batch = batches[name]
        for copy, row in _copies(batch, row_id, records[name], excluded_batches(decisions)):
            copies.append(copy)
            content = content or row
    mine = [decision for decision in decisions if decision.which in (row_id, *records)]
    return RowHistory(row_id, content, copies, mine, versions_with({row_id}, model).get(row_id, {}))


def versions_with(row_ids: set[str], model: str) -> dict[str, dict[int, str]]:
    """Row id → version → its split there, for every registered version whose data can be read.

    INHERITED: the version started from, or was distilled from, one that was trained on the row.
    """
    splits_of: dict[str, dict[int, str]] = {}
    ids = pa.array(sorted(row_ids), pa.string())
    for version in registered_versions(model):
        for part in parts_of(model, str(version)).values():
            rows = part.rows.filter(pc.is_in(part.rows["row_id"], ids)).select(["row_id", "split"])
            for row in rows.to_pylist():
                splits_of.setdefault(row["row_id"], {})[version] = row["split"]
        for row_id in left_out_of(model, version, {row for row in splits_of if version in splits_of[row]}):
            splits_of[row_id][version] = LEFT_OUT
        for earlier in ancestors_of(model, version):
            for splits in splits_of.values():
                if splits.get(earlier) in IN_WEIGHTS:
                    splits.setdefault(version, INHERITED)
    return splits_of


def find_row(start: str) -> tuple[str, dict[str, set[int]]]:
    """The whole id, and batch → indices of its records; empty if it was erased."""
    start = start.lower()
    if len(start) < LEAST_CHARACTERS:
        raise DataError(
            "is too short to name a row", where=start, fix=f"Give {LEAST_CHARACTERS} characters of its id or more"
        )
    matches = locate_rows_by_prefix(start)
    if (erased := _erased(start)) and not _has_text(matches.get(erased, {})):
        return erased, {}
    if len(matches) != 1:
        if not matches:
            raise DataError("no row's id begins so", where=start, fix=_like(start))
        what = f"{len(matches)} rows' ids begin so: {', '.join(sorted(matches)[:3])}"
        raise DataError(what, where=start, fix="Give more of it")
    return next(iter(matches.items()))


def collected_row(row_id: str, records: dict[str, set[int]]) -> dict[str, Any]:
    """The row (ROW_SCHEMA) as it was collected first, by the records of `find_row`; without texts if no record could be parsed."""
    batch = next(batch for batch in read_manifest() if batch.batch in records)
    indices = sorted(records[batch.batch])[:1]
    (row,) = to_rows(read_raw(batch, check=False).take(pa.array(indices)), batch, indices).to_pylist()
    return dict(row)


def _like(start: str) -> str:
    """Where to see ids, and those that begin much like this text."""
    beginnings = {row_id[: len(start)]: row_id for row_id in sorted(locate_rows_by_prefix(start[:2]))}
    alike = difflib.get_close_matches(start, beginnings, n=3)
    near = f"Ids that begin like it: {', '.join(beginnings[beginning] for beginning in alike)}. " if alike else ""
    return f"{near}See ids: strop quarantine list, strop data diff"


def _has_text(records: dict[str, set[int]]) -> bool:
    """Whether one of the records has text: the same row may have been collected again after its erasure."""
    batches = {batch.batch: batch for batch in read_manifest()}
    for name, indices in records.items():
        raw = read_raw(batches[name], check=False).take(pa.array(sorted(indices)))
        if raw["record"].null_count < len(indices) or raw["raw"].null_count < len(indices):
            return True
    return False


def _erased(start: str) -> str | None:
    """The id of the erased row that begins with `start`: its text is gone, but its versions are still known."""
    ids = {row_id for erasure in read_erasures() for row_id in erasure.ids if row_id.startswith(start)}
    return ids.pop() if len(ids) == 1 else None


def _copies(batch: Batch, row_id: str, indices: set[int], excluded: set[str]) -> list[tuple[Copy, dict[str, Any]]]:
    ordered = sorted(indices)
    rows = to_rows(read_raw(batch, check=False).take(pa.array(ordered)), batch, ordered).to_pylist()
    copies = []
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
            for left_out in read_left_out(row_ids={row_id}).to_pylist():
                copy.state, copy.room = "left out", "render"
                copy.reason, copy.detail = left_out["reason"], left_out["detail"]
        if batch.batch in excluded:
            copy.state = "excluded"
        copies.append((copy, row))
    return copies


def _line(path: Path, row_id: str, index: int) -> dict[str, Any] | None:
    if not path.exists():
        return None
    table = pq.read_table(path)
    rows = table.filter(pc.and_(pc.equal(table["row_id"], row_id), pc.equal(table["index"], index))).to_pylist()
    return rows[0] if rows else None
