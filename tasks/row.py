"""The row: what every record becomes, whatever shape it came in, and the arrow schema that rooms hand on.

A single exchange is `instruction` (what to do, may be empty) and `input` (what to do it to, may be empty), answered by
`output`. A dialogue keeps its last user turn in `input`, its last assistant turn in `output`, and the turns before in
`history`. A classification keeps its label in `output`.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from tasks.files import content_digest

CONTENT_FIELDS = ("family", "system", "history", "instruction", "input", "output")
"""The fields whose content is the row: two rows equal in these are the same row."""

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
        ("language", pa.string()),  # "en" or "zh"
        ("system", pa.string()),
        ("history", pa.string()),  # JSON: [[role, content], ...], "[]" for a single exchange
        ("instruction", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
    ]
)

CURATED_SCHEMA = ROW_SCHEMA.append(pa.field("split", pa.string()))  # "train", "valid" or "test"

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
    """The row's identity: 32 hex characters of the digest of its content fields."""
    return content_digest([row[name] for name in CONTENT_FIELDS])[:32]
