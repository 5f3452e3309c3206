"""The row, to which records of all shapes are converted, and the Arrow schemas between rooms.

A single exchange is `instruction` (the task, may be empty) and `input` (its data, may be empty), with the answer in
`output`. A dialogue keeps its last user turn in `input`, its last assistant turn in `output`, and the turns before in
`history`. A classification keeps its label in `output`.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from tasks.records.ordered_json import comparable, dumps, loads, with_whole_numbers
from tasks.runtime.files import canonical_json, content_digest

_CALLS = '[{"arguments":'
_TOOL_ROLES = ("tool_call", "tool")

CONTENT_FIELDS = ("family", "system", "history", "instruction", "input", "output")
"""The fields of a row's identity: two rows with the same values are the same row."""

MORE_FIELDS = {"tools": "", "rejected": "", "desirable": "", "images": "[]", "untrained": "", "thoughts": ""} | {
    "tests": ""
}
"""Fields that most rows lack, with their empty value; part of a row's identity if they are not empty.

`tools`: JSON of the tools that a dialogue may call, in the order of their keys. `rejected`: the worse answer of a preference pair
(the better one is `output`). `desirable`: "true" or "false", the label of KTO. `images`: JSON list of sha256, in order.
`untrained`: JSON list of answers that are only context; `thoughts`: JSON [[turn, thought], ...]. Turns are counted from the end,
-1 is the output (so they stay valid if old turns are removed), and 0 in `thoughts` is `rejected`.
`tests`: Python that runs after an answer of code (tasks/records/code_tests.py); it is in no prompt, and never trained.
"""

NO_TEXT = {"system": "", "history": "[]", "instruction": "", "input": "", "output": "", **MORE_FIELDS}
"""The content of a record that is not a row."""

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # 32 hex characters: the digest of the content
        ("batch", pa.string()),
        ("index", pa.int64()),  # in the batch, from 0
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),  # line (JSONL, CSV) or record number (JSON, Parquet) in the file, from 1
        ("family", pa.string()),
        ("language", pa.string()),  # "en", "zh", or "mixed" (tasks/records/languages.py)
        ("use", pa.string()),  # "train", "golden" (test only) or "benchmark" (neither training nor test)
        ("system", pa.string()),
        ("history", pa.string()),  # JSON: [[role, content], ...], "[]" for a single exchange
        ("instruction", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        *((name, pa.string()) for name in MORE_FIELDS),
        ("synthetic", pa.string()),  # the recipe that generated the row, "" for a collected row
        ("parents", pa.string()),  # JSON: the ids of the rows that it was generated from
        ("served", pa.string()),  # JSON: the served answer that it corrects or rates, and who did so; "" for other rows
    ]
)

VERDICT_SCHEMA = pa.schema([("index", pa.int64()), ("row_id", pa.string())])
"""The accepted records of a batch, from `validate`. Their text is only in the raw batch."""

CLEANED_FIELDS = ("system", "history", "instruction", "input", "output", "rejected", "thoughts")
"""The fields that `curate` may change: it cleans them, and masks personal data."""

CURATED_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # in the raw batch, which has the text
        ("row_id", pa.string()),
        ("split", pa.string()),  # "train", "valid" or "test"
        ("group", pa.string()),  # the id of the earlier row whose split it has, or ""
        *((name, pa.string()) for name in CLEANED_FIELDS),  # null if unchanged
    ]
)
"""A part of data/curated: the rows of a batch, their split, and only the text that differs from the raw batch."""

DATASET_SCHEMA = pa.schema([*ROW_SCHEMA, ("split", pa.string()), ("group", pa.string())])
"""The dataset as it is read (tasks/dataset/read.py)."""

CHANGE_SCHEMA = pa.schema([("row_id", pa.string()), ("batch", pa.string()), ("index", pa.int64()), ("by", pa.string())])
"""Rows of earlier batches that a later one removed from training, and the held-out row that they overlap."""

QUARANTINE_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),
        ("batch", pa.string()),
        ("index", pa.int64()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),
        ("reason", pa.string()),  # a stable code, such as "empty_output"
        ("field", pa.string()),
        ("value", pa.string()),  # the invalid value, at most 500 characters
        ("record", pa.string()),  # the whole record, so that it can be fixed and released
    ]
)


def row_id_of(row: dict[str, Any]) -> str:
    """The row's identity: 32 hex characters of the digest of its content fields, in canonical spelling."""
    row = in_canonical_spelling(row)
    content: list[Any] = [row[name] for name in CONTENT_FIELDS]
    more = {name: row[name] for name, empty in MORE_FIELDS.items() if row.get(name, empty) != empty}
    return content_digest([*content, more] if more else content)[:32]


def in_canonical_spelling(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the JSON of its tools, calls and results in canonical spelling: sorted keys, `1e3` and `1000.0` as 1000.

    Parquet has one order of keys and one type of number for all rows of a file, and no spelling of numbers; a record in two
    formats is one row. Training uses the original text.
    """
    changed = {name: _canonical(row[name]) for name in ("output", "rejected") if row.get(name, "").startswith(_CALLS)}
    if row.get("tools"):
        changed["tools"] = _canonical(row["tools"])
    if '["tool' in row["history"]:
        turns = [[role, _canonical(text) if role in _TOOL_ROLES else text] for role, text in json.loads(row["history"])]
        changed |= {"history": canonical_json(turns), "input": _canonical(row["input"])}
    return {**row, **changed} if changed else row


def _canonical(text: str) -> str:
    """The text in the canonical spelling of its value, if ingestion wrote it from a value."""
    if text[:1] not in ("{", "["):
        return text
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return text
    return comparable(with_whole_numbers(value)) if dumps(value) == text else text
