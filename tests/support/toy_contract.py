"""Batches judged by a contract."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from support.project import REPOSITORY
from tasks.records.parse import to_rows
from tasks.records.raw_batch import RAW_SCHEMA, identified, record_digest
from tasks.runtime.files import canonical_json
from tasks.state.manifest import Batch
from tasks.validate.contract.contract import FamilyContract
from tasks.validate.judge import Facts, check_rules, decide, merge_chunks
from tasks.validate.load_contract import load_contract
from tasks.validate.quarantine_rows import quarantine_rows

CONTRACT = load_contract(REPOSITORY / "data/contract/contract.yaml")


@dataclass(frozen=True)
class Judged:
    accepted: pa.Table
    quarantined: pa.Table
    facts: Facts


def raw_of(records: list[Any], shape: str = "alpaca", family: str = "instruction", language: str = "auto",
           columns: dict[str, str] | None = None) -> pa.Table:  # fmt: skip
    """A raw batch as `ingest` writes it; bytes stand for a record that did not parse."""
    rows = []
    for line, record in enumerate(records, start=1):
        raw = record if isinstance(record, bytes) else None
        text = None if raw is not None else identified(record)[0]
        rows.append({
            "digest": record_digest(text, raw), "record": text, "raw": raw, "error": "not_json: torn" if raw else None,
            "file": "inbox/a.jsonl", "line": line, "shape": shape, "family": family, "language": language,
            "columns": canonical_json(columns or {}),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=RAW_SCHEMA)


def batch_of(raw: pa.Table) -> Batch:
    return Batch(1, "0123456789abcdef", "news", raw.num_rows, "0" * 64)


def judge(
    raw: pa.Table,
    contract: FamilyContract,
    max_refused_share: float,
    released: frozenset[str] = frozenset(),
    dropped: frozenset[str] = frozenset(),
    chunk: int = 2,
) -> Judged:
    """Judges a batch as the stage does, in chunks of so many records."""
    batch = batch_of(raw)
    chunks = [(first, raw.slice(first, chunk)) for first in range(0, raw.num_rows, chunk)]
    result = [
        check_rules(to_rows(part, batch, range(first, first + part.num_rows)), contract) for first, part in chunks
    ]
    whole = merge_chunks(result, contract)
    verdict = decide(whole, contract, max_refused_share, released, dropped, batch.batch, batch.source)
    lines = [
        quarantine_rows(
            part, whole.row_ids.slice(first, chunk), verdict.reasons[first : first + chunk], batch, first, contract
        )
        for first, part in chunks
    ]
    return Judged(verdict.accepted, pa.concat_tables(lines), verdict.facts)


def alpaca(output: Any = "An answer.", instruction: Any = "Do this.", **more: Any) -> dict[str, Any]:
    return {"instruction": instruction, "input": "", "output": output, **more}


def reasons(judged: Judged) -> list[tuple[str, str | None, str | None]]:
    return [(row["reason"], row["field"], row["value"]) for row in judged.quarantined.to_pylist()]


def refuse(
    record: Any, contract: FamilyContract | None = None, **frame: Any
) -> tuple[str, str | None, str | None] | None:
    """The reason, field and value of a single record's refusal."""
    judged = judge(raw_of([record], **frame), contract or CONTRACT.of(frame.get("family", "instruction")), 1.0)
    return next(iter(reasons(judged)), None)
