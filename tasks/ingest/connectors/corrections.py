"""Traces whose answer a person corrected, or no longer finds good, after it was collected: the newest judgement holds.

Raw only grows, so the older record stays in it; its row is dropped by a decision, signed by the source. What people decide of
the row afterwards is left as it is.
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
"""Where a record says which trace it came from."""


def settle(source: str, batches: Iterable[Batch], now: Mapping[str, str], withdrawn: Collection[str]) -> list[str]:
    """Decides on the rows of traces that were judged anew; returns what a person should know.

    Args:
        batches: the source's.
        now: trace → digest of the record that it is now.
        withdrawn: traces that are judged, and not to be learnt from.
    """
    older: dict[str, str] = {}
    standing: set[str] = set()
    for trace, digest, row_id in _collected(batches, {*now, *withdrawn}):
        if now.get(trace) == digest:
            standing.add(row_id)
        else:
            older[row_id] = "corrected later in the trace" if trace in now else "no longer found good"
    who = f"source {source}"
    decisions = [each for each in read_decisions() if each.what in ON_ROWS]
    dropped = {each.which for each in decisions if (each.what, each.who) == ("drop", who)}
    last = {each.which: each for each in decisions}
    told = []
    for why in sorted(set(older.values())):
        rows = [row for row, its in older.items() if its == why and row not in standing]
        rows = [row for row in rows if _may_drop(last.get(row), who, row in dropped)]
        told += _decided(source, record_decisions("drop", rows, why, who=who), f"dropped: {why}")
    rows = [row for row in sorted(standing) if row in last and (last[row].what, last[row].who) == ("drop", who)]
    why = "the trace is so judged again"
    return told + _decided(source, record_decisions("restore", rows, why, who=who), f"no longer dropped: {why}")


def _may_drop(last: Decision | None, who: str, was_dropped: bool) -> bool:
    """Is the row not dropped, and has no person taken it back from the source's own decision?"""
    return last is None or (last.what != "drop" and (last.who == who or not was_dropped))


def _decided(source: str, decisions: list[Decision], told: str) -> list[str]:
    rows = count_of(len(decisions), "row")
    return [f"{source}: {rows} {told}"] if decisions else []


def _collected(batches: Iterable[Batch], traces: Collection[str]) -> Iterator[tuple[str, str, str]]:
    """(trace, digest, row id) of the rows in raw that came from these traces."""
    for batch in batches:
        raw = read_raw_file(batch.path)
        found = [json.loads(record) if record else None for record in raw["record"].to_pylist()]
        names = [str(record.get(TRACE)) if isinstance(record, dict) else "" for record in found]
        places = [place for place, name in enumerate(names) if name in traces]
        chosen = raw.take(pa.array(places, pa.int64()))
        rows = to_rows(chosen, batch, places).select(["row_id", "problem"]).to_pylist()
        for place, digest, row in zip(places, chosen["digest"].to_pylist(), rows, strict=True):
            if not row["problem"]:
                yield names[place], digest, row["row_id"]
