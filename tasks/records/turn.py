"""A turn of a dialogue."""

from __future__ import annotations

from typing import NamedTuple


class Turn(NamedTuple):
    """A turn; one of a record becomes two where the assistant says something and calls a tool."""

    role: str
    text: str
    images: tuple[str, ...] = ()
    """By hash; each has its place in the text, `<image>`."""
    is_trained: bool = True
    thought: str = ""
    ids: tuple[str | None, ...] = ()
    """Of a `tool_call`: of its calls; of a `tool`: of the call that it answers."""
    speaker: str = ""
    """Of a `tool`: its name, where the record says it; else `observation`, where the record calls its role so."""

    @property
    def is_plain(self) -> bool:
        return self[2:] == _PLAIN


_PLAIN = ((), True, "", (), "")
