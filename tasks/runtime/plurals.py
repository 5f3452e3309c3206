"""Numbers with a noun, for messages."""

from __future__ import annotations


def count_of(number: int, singular: str, plural: str = "") -> str:
    """`1 file`, `1,200 files`; `plural` if it is not the singular with an s."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"
