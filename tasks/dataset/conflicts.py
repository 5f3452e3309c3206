"""What rows have in common that answer one prompt of a source."""

from __future__ import annotations

import hashlib
from typing import Any

from tasks.records.segmentation import normalise


def conflict_key(row: dict[str, Any]) -> int:
    """64 bits that rows of one source with the same prompt share; 0 for rows that say nothing of *the* answer to a prompt:
    preferences, judgements, raw text, and rows that were made."""
    parts = [row["source"], row["family"], row["system"], row["history"], row["instruction"], row["input"]]
    if row["rejected"] or row["desirable"] or row["synthetic"] or not any((row["system"], *parts[4:])):
        return 0
    text = "\x00".join([normalise("\x00".join(parts)), row["tools"], row["images"]])
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") | 1
