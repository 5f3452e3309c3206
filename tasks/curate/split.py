"""A row's side and its identity among duplicates. Pure: they follow from the row's content alone.

The split looks at the input, not the answer, so that all answers to one prompt stand on one side; and at its joined text,
so that a prompt stands on the same side whichever shape it came in.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from tasks.row import INPUT_FIELDS
from tasks.text import normalise

_TEXTS = tuple(name for name in INPUT_FIELDS if name not in ("family", "history"))


def input_key(row: dict[str, Any]) -> str:
    """The normalised input: what the model is shown, as one text."""
    turns = [text for _, text in json.loads(row["history"])]
    return normalise(" ".join([row["system"], *turns, row["instruction"], row["input"]]))


def content_key(row: dict[str, Any], input_text: str) -> bytes:
    """16 bytes that equal rows share: family, normalised input and normalised answer."""
    text = "\x1f".join([row["family"], input_text, normalise(row["output"])])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]


def split_of(input_text: str, salt: str, valid_share: float, test_share: float) -> str:
    """ "train", "valid" or "test", by the salted hash of the normalised input; it never changes."""
    digest = hashlib.sha256(f"{salt}\x1f{input_text}".encode("utf-8", "surrogatepass")).digest()
    place = int.from_bytes(digest[:8], "big") / 2**64
    if place < test_share:
        return "test"
    return "valid" if place < test_share + valid_share else "train"
