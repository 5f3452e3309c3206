"""Quarantine rows: the refused records of a chunk, each with its reason, the field at fault and its value. Pure."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.records.parse import raw_text, to_rows, value_text
from tasks.records.row import QUARANTINE_SCHEMA
from tasks.records.segmentation import around
from tasks.state.manifest import Batch
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import SET_ASIDE
from tasks.validate.measures.mojibake import damaged_span
from tasks.validate.rules.rules import Rule, rules_of


def quarantine_rows(
    raw: pa.Table, row_ids: pa.Array, reasons: list[str], batch: Batch, first: int, contract: FamilyContract
) -> pa.Table:
    """The refused records of a chunk (QUARANTINE_SCHEMA), in order.

    Args:
        raw: the chunk (RAW_SCHEMA).
        row_ids: (records,)
        reasons: (records,) reason codes, "" for an accepted record.
        first: the index in the batch of the chunk's first record.
    """
    indices = [index for index, reason in enumerate(reasons) if reason]
    refused = raw.take(pa.array(indices, pa.int64()))
    records = zip(refused["record"].to_pylist(), refused["raw"].to_pylist(), strict=True)
    at_fault = _fields_at_fault(refused, [reasons[index] for index in indices], batch, contract)
    columns = {
        "row_id": row_ids.take(pa.array(indices, pa.int64())),
        "batch": [batch.batch] * len(indices),
        "index": [first + index for index in indices],
        "source": [batch.source] * len(indices),
        "file": refused["file"],
        "line": refused["line"],
        "reason": [reasons[index] for index in indices],
        "field": [name for name, _ in at_fault],
        "value": [value for _, value in at_fault],
        "record": [raw_text(bytes_) if record is None else record for record, bytes_ in records],
    }
    return pa.table(columns, schema=QUARANTINE_SCHEMA)


def _fields_at_fault(
    refused: pa.Table, reasons: list[str], batch: Batch, contract: FamilyContract
) -> list[tuple[str | None, str | None]]:
    """(refused,) field and value at fault; None for a batch set aside, whose rows are not parsed again."""
    indices = [index for index, reason in enumerate(reasons) if reason != SET_ASIDE]
    rules = {rule.code: rule for rule in rules_of(contract)}
    at_fault: list[tuple[str | None, str | None]] = [(None, None)] * len(reasons)
    rows = to_rows(refused.take(pa.array(indices, pa.int64())), batch).to_pylist()
    for index, row in zip(indices, rows, strict=True):
        at_fault[index] = _field_at_fault(rules.get(reasons[index]), row, contract)
    return at_fault


def _field_at_fault(rule: Rule | None, row: dict[str, Any], contract: FamilyContract) -> tuple[str | None, str | None]:
    """The field at fault and its value."""
    if row["problem"]:
        return row["problem_field"] or None, row["problem_value"]
    if rule is None:  # dropped by a person
        return None, None
    name = rule.columns[0]
    if rule.code == "empty_field":
        name = next(field for field in contract.required_fields if not row[field].strip())
    elif rule.code == "encoding_damage":
        spans = {field: damaged_span(row[field]) for field in rule.columns if field != "problem"}
        name, span = next(((field, span) for field, span in spans.items() if span), (name, (0, 0)))
        return name, value_text(around(row[name], *span))
    elif name == "input" and not row["input"]:
        name = "instruction" if row["instruction"] else "input"
    return ("id" if name == "own_id" else name), value_text(row[name])
