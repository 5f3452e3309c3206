"""A turn of a dialogue."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """A turn. A record's turn with both a text and a call is two."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    """Hashes; each is `<image>` in the text."""
    is_trained: bool = True
    thought: str = ""
    ids: tuple[str | None, ...] = ()
    """Of a `tool_call`: ids of its calls; of a `tool`: id of the call that it answers."""
    speaker: str = ""
    """Of a `tool`: its name, if the record has it; else `observation`, if that is its role in the record."""

    @property
    def is_plain(self) -> bool:
        return self[2:] == _PLAIN


_PLAIN = ((), True, "", (), "")
