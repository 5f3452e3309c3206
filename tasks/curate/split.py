"""A row's side, and what it is compared by. Pure: all of it follows from the row's content alone.

The split looks at the input, not the answer, so that all answers to one prompt stand on one side; and at its joined text,
so that a prompt stands on the same side whichever shape it came in.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tasks.row import MORE_FIELDS, in_one_spelling
from tasks.text import normalise


def input_text(row: dict[str, Any]) -> str:
    """What the model is shown, as one text; the output, where it is shown nothing (raw text)."""
    turns = _turns(row)
    return " ".join([row["system"], *turns, row["instruction"], row["input"]]).strip() or row["output"]


def passage_text(row: dict[str, Any]) -> str:
    """What must not stand on two sides: the row without its instruction, which many rows share, unless it is all there is."""
    return "\n".join([*_turns(row), row["input"] or row["instruction"], row["output"]])


def content_key(row: dict[str, Any], normalised_input: str) -> bytes:
    """16 bytes that equal rows share: family, normalised input and normalised answer, and what else is content."""
    row = in_one_spelling(row)
    parts = [row["family"], normalised_input, normalise(row["output"])]
    parts += [f"{name}\x1e{row[name]}" for name, empty in MORE_FIELDS.items() if row[name] != empty]
    return hashlib.sha256("\x1f".join(parts).encode("utf-8", "surrogatepass")).digest()[:16]


def split_of(normalised_input: str, salt: str, valid_share: float, test_share: float) -> str:
    """ "train", "valid" or "test", by the salted hash of the normalised input."""
    digest = hashlib.sha256(f"{salt}\x1f{normalised_input}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "valid" if place < test_share + valid_share else "train"


def _turns(row: dict[str, Any]) -> list[str]:
    return [] if row["history"] == "[]" else [text for _, text in json.loads(row["history"])]
