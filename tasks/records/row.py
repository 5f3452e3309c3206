"""The row: what every record becomes, whatever shape it came in, and the arrow schema that rooms hand on.

A single exchange is `instruction` (what to do, may be empty) and `input` (what to do it to, may be empty), answered by
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
_OF_TOOLS = ("tool_call", "tool")

CONTENT_FIELDS = ("family", "system", "history", "instruction", "input", "output")
"""The fields whose content is the row: two rows equal in these are the same row."""

MORE_FIELDS = {"tools": "", "rejected": "", "desirable": "", "images": "[]", "untrained": "", "thoughts": ""}
"""Content that most rows lack, and what stands there then; it is part of a row's identity where it is there.

`tools`: JSON of the tools that a dialogue may call, in the order of their keys. `rejected`: the worse answer of a preference pair
(the better one is `output`). `desirable`: "true" or "false", a single judgement (KTO). `images`: JSON list of sha256, in order.
`untrained`: JSON list of the answers that stand in the context alone; `thoughts`: JSON [[turn, thought], ...]. Turns are counted
from the end, -1 is the output (so they stay right where old turns are dropped), and 0 in `thoughts` is `rejected`.
"""

NO_TEXT = {"system": "", "history": "[]", "instruction": "", "input": "", "output": "", **MORE_FIELDS}
"""The content of a record that is no row."""

INPUT_FIELDS = ("family", "system", "history", "instruction", "input")
"""What the model is shown: the split looks at these alone, so that all answers to one prompt stand on one side."""

ROW_SCHEMA = pa.schema(
    [
        ("row_id", pa.string()),  # 32 hex characters: the digest of the content
        ("batch", pa.string()),
        ("index", pa.int64()),  # place in the batch, from 0
        ("source", pa.string()),
        ("file", pa.string()),
        ("line", pa.int64()),  # line (JSONL, CSV) or record number (JSON, Parquet) in the file, from 1
        ("family", pa.string()),
        ("language", pa.string()),  # "en", "zh", or "mixed" (tasks/records/languages.py)
        ("use", pa.string()),  # "train", "golden" (only ever tested on) or "benchmark" (neither trained nor tested on)
        ("system", pa.string()),
        ("history", pa.string()),  # JSON: [[role, content], ...], "[]" for a single exchange
        ("instruction", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        *((name, pa.string()) for name in MORE_FIELDS),
        ("synthetic", pa.string()),  # the recipe that made the row, "" for one that was collected
        ("parents", pa.string()),  # JSON: the ids of the rows that it was made from
    ]
)

VERDICT_SCHEMA = pa.schema([("index", pa.int64()), ("row_id", pa.string())])
"""What `validate` hands on of a batch: the accepted records. Their text is in the raw batch, and nowhere a second time."""

CLEANED_FIELDS = ("system", "history", "instruction", "input", "output", "rejected", "thoughts")
"""What `curate` may change of a row: it takes dirt out, and masks personal data."""

CURATED_SCHEMA = pa.schema(
    [
        ("index", pa.int64()),  # place in the raw batch, which holds the text
        ("row_id", pa.string()),
        ("split", pa.string()),  # "train", "valid" or "test"
        ("group", pa.string()),  # the id of the earlier row whose side it took, or ""
        *((name, pa.string()) for name in CLEANED_FIELDS),  # null where the text is as it came
    ]
)
"""What data/curated holds of a batch: which rows, on which side, and only the text that is another than in the raw batch."""

DATASET_SCHEMA = pa.schema([*ROW_SCHEMA, ("split", pa.string()), ("group", pa.string())])
"""The dataset as it is read (tasks/dataset/read.py)."""

CHANGE_SCHEMA = pa.schema([("row_id", pa.string()), ("batch", pa.string()), ("index", pa.int64()), ("by", pa.string())])
"""Rows of earlier batches that a later one took out of training, and the held-out row that they overlap."""

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
        ("value", pa.string()),  # the offending value, cut to 500 characters
        ("record", pa.string()),  # the whole record as it came, so that it can be mended and released
    ]
)


def row_id_of(row: dict[str, Any]) -> str:
    """The row's identity: 32 hex characters of the digest of its content fields, in one spelling."""
    row = in_one_spelling(row)
    content: list[Any] = [row[name] for name in CONTENT_FIELDS]
    more = {name: row[name] for name, empty in MORE_FIELDS.items() if row.get(name, empty) != empty}
    return content_digest([*content, more] if more else content)[:32]


def in_one_spelling(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the JSON of its tools, calls and tools' answers spelled as equal values are: sorted keys, `1e3` and `1000.0` as
    1000.

    Parquet has one order of keys and one type of number for all rows of a file, and knows no spelling of a number: a record that
    comes in two formats is one row. What is trained is the text as it came.
    """
    changed = {name: _spelled(row[name]) for name in ("output", "rejected") if row.get(name, "").startswith(_CALLS)}
    if row.get("tools"):
        changed["tools"] = _spelled(row["tools"])
    if '["tool' in row["history"]:
        turns = [[who, _spelled(text) if who in _OF_TOOLS else text] for who, text in json.loads(row["history"])]
        changed |= {"history": canonical_json(turns), "input": _spelled(row["input"])}
    return {**row, **changed} if changed else row


def _spelled(text: str) -> str:
    """The text, in the one spelling of its value where ingestion wrote it from a value."""
    if text[:1] not in ("{", "["):
        return text
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return text
    return comparable(with_whole_numbers(value)) if dumps(value) == text else text
