"""The key of conflicting rows: several answers of one source to one prompt."""

from __future__ import annotations

import hashlib
from typing import Any

from tasks.records.segmentation import normalise


def conflict_key(row: dict[str, Any]) -> int:
    """64 bits, equal for rows of one source with the same prompt; 0 for rows without a single right answer: preferences, ratings,
    raw text and synthetic rows."""
    parts = [row["source"], row["family"], row["system"], row["history"], row["instruction"], row["input"]]
    if row["rejected"] or row["desirable"] or row["synthetic"] or not any((row["system"], *parts[4:])):
        return 0
    text = "\x00".join([normalise("\x00".join(parts)), row["tools"], row["images"]])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") | 1
