"""The lines of the quarantine: the refused records of a chunk, each with its reason, the field at fault and its value. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.records.parse import raw_text, to_rows, value_text
from tasks.records.row import QUARANTINE_SCHEMA
from tasks.records.segmentation import around
from tasks.state.manifest import Batch
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import SET_ASIDE
from tasks.validate.measures.mojibake import damaged_place
from tasks.validate.rules.rules import Rule, rules_of


def refused_lines(
    raw: pa.Table, row_ids: pa.Array, reasons: list[str], batch: Batch, first: int, contract: FamilyContract
) -> pa.Table:
    """The refused records of a chunk (QUARANTINE_SCHEMA), in order.

    Args:
        raw: the chunk (RAW_SCHEMA).
        row_ids: of its records.
        reasons: of its records, "" for an accepted one.
        first: the place in the batch of its first record.
    """
    places = [place for place, reason in enumerate(reasons) if reason]
    refused = raw.take(pa.array(places, pa.int64()))
    came = zip(refused["record"].to_pylist(), refused["raw"].to_pylist(), strict=True)
    culprits = _culprits(refused, [reasons[place] for place in places], batch, contract)
    columns = {
        "row_id": row_ids.take(pa.array(places, pa.int64())),
        "batch": [batch.batch] * len(places),
        "index": [first + place for place in places],
        "source": [batch.source] * len(places),
        "file": refused["file"],
        "line": refused["line"],
        "reason": [reasons[place] for place in places],
        "field": [name for name, _ in culprits],
        "value": [value for _, value in culprits],
        "record": [raw_text(bytes_) if record is None else record for record, bytes_ in came],
    }
    return pa.table(columns, schema=QUARANTINE_SCHEMA)


def _culprits(
    refused: pa.Table, reasons: list[str], batch: Batch, contract: FamilyContract
) -> list[tuple[str | None, str | None]]:
    """Field and value of each; none where the batch is at fault, whose rows need not be parsed a second time."""
    at_fault = [place for place, reason in enumerate(reasons) if reason != SET_ASIDE]
    rules = {rule.code: rule for rule in rules_of(contract)}
    found: list[tuple[str | None, str | None]] = [(None, None)] * len(reasons)
    rows = to_rows(refused.take(pa.array(at_fault, pa.int64())), batch).to_pylist()
    for place, row in zip(at_fault, rows, strict=True):
        found[place] = _culprit(rules.get(reasons[place]), row, contract)
    return found


def _culprit(rule: Rule | None, row: dict[str, Any], contract: FamilyContract) -> tuple[str | None, str | None]:
    """The field at fault and its value."""
    if row["problem"]:
        return row["problem_field"] or None, row["problem_value"]
    if rule is None:  # a person refuses, not a field
        return None, None
    name = rule.columns[0]
    if rule.code == "empty_field":
        name = next(each for each in contract.required_fields if not row[each].strip())
    elif rule.code == "encoding_damage":
        places = {each: damaged_place(row[each]) for each in rule.columns if each != "problem"}
        name, place = next(((each, place) for each, place in places.items() if place), (name, (0, 0)))
        return name, value_text(around(row[name], *place))
    elif name == "input" and not row["input"]:
        name = "instruction" if row["instruction"] else "input"
    return ("id" if name == "own_id" else name), value_text(row[name])
