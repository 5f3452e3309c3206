"""The text of a row that a classification head gets: without templates. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def label_text(row: Mapping[str, Any]) -> str:
    """The history, instruction and input of a row, or of a request without an input."""
    turns = [] if row["history"] == "[]" else [text for _, text in json.loads(row["history"])]
    parts = (part.strip() for part in (*turns, row["instruction"], row.get("input", "")))
    return "\n\n".join(part for part in parts if part)
