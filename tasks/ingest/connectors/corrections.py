"""Records that their source corrected or withdrew after they were collected: the latest one counts.

Raw only grows, so an earlier record stays in it; its row is dropped by a decision of the source. Later decisions of users about
that row are kept.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping

import pyarrow as pa

from tasks.records.parse import read_raw_file, to_rows
from tasks.runtime.plurals import count_of
from tasks.state.decisions import ON_ROWS, Decision, read_decisions, record_decisions
from tasks.state.manifest import Batch

TRACE = "trace_id"
"""Field of a trace's record with the id of the trace."""


def apply_corrections(
    source: str, key: str, batches: Iterable[Batch], current: Mapping[str, str], withdrawn: Collection[str]
) -> list[str]:
    """Drops the rows of earlier and withdrawn records, and restores those that are current again; returns messages.

    Args:
        key: the field that identifies a record.
        batches: the source's.
        current: key → digest of the present record.
        withdrawn: keys of records that are no longer wanted.
    """
    outdated: dict[str, str] = {}
    present: set[str] = set()
    for value, digest, row_id in _collected(key, batches, {*current, *withdrawn}):
        if current.get(value) == digest:
            present.add(row_id)
        else:
            outdated[row_id] = "corrected later in the source" if value in current else "withdrawn by the source"
    who = f"source {source}"
    decisions = [each for each in read_decisions() if each.what in ON_ROWS]
    dropped = {each.which for each in decisions if (each.what, each.who) == ("drop", who)}
    last = {each.which: each for each in decisions}
    messages = []
    for why in sorted(set(outdated.values())):
        rows = [row for row, reason in outdated.items() if reason == why and row not in present]
        rows = [row for row in rows if _may_drop(last.get(row), who, row in dropped)]
        messages += _summary(source, record_decisions("drop", rows, why, who=who), f"dropped: {why}")
    rows = [row for row in sorted(present) if row in last and (last[row].what, last[row].who) == ("drop", who)]
    why = "current again in the source"
    return messages + _summary(source, record_decisions("restore", rows, why, who=who), f"no longer dropped: {why}")


def _may_drop(last: Decision | None, who: str, was_dropped: bool) -> bool:
    """Whether the row is not dropped, and no user restored it after the source dropped it."""
    return last is None or (last.what != "drop" and (last.who == who or not was_dropped))


def _summary(source: str, decisions: list[Decision], what: str) -> list[str]:
    rows = count_of(len(decisions), "row")
    return [f"{source}: {rows} {what}"] if decisions else []


def _collected(key: str, batches: Iterable[Batch], values: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(value of the key, digest, row id) of the rows in raw with one of these values."""
    for batch in batches:
        raw = read_raw_file(batch.path)
        records = [json.loads(record) if record else None for record in raw["record"].to_pylist()]
        keys = [str(record.get(key)) if isinstance(record, dict) else "" for record in records]
        indices = [index for index, value in enumerate(keys) if value in values]
        chosen = raw.take(pa.array(indices, pa.int64()))
        rows = to_rows(chosen, batch, indices).select(["row_id", "problem"]).to_pylist()
        for index, digest, row in zip(indices, chosen["digest"].to_pylist(), rows, strict=True):
            if not row["problem"]:
                yield keys[index], digest, row["row_id"]
