"""Numbers of things in sentences."""

from __future__ import annotations


def count_of(number: int, thing: str, things: str = "") -> str:
    """`1 file`, `1,200 files`; `things` where it is not `thing` with an s."""
    return f"{number:,} {thing if number == 1 else things or thing + 's'}"
