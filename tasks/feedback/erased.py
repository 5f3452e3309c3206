"""The responses whose records were erased: late feedback on them is not accepted, and no record of them is written again."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from tasks.runtime.files import file_state, write_text

NAME = "erased.txt"
"""In the spool's folder: an id a line."""


class ErasedIds:
    """The erased ids, read again when the file changes."""

    def __init__(self, spool: Path) -> None:
        self.path = spool / NAME
        self.state: tuple[int, int, int, int] | None = None
        self._ids: frozenset[str] = frozenset()

    def ids(self) -> frozenset[str]:
        state = file_state(self.path)
        if state != self.state:
            self._ids, self.state = read_erased(self.path.parent), state
        return self._ids


def read_erased(spool: Path) -> frozenset[str]:
    path = spool / NAME
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def add_erased(spool: Path, responses: Collection[str]) -> None:
    known = read_erased(spool)
    if not known.issuperset(responses):
        spool.mkdir(parents=True, exist_ok=True)
        write_text(spool / NAME, "".join(f"{response}\n" for response in sorted({*known, *responses})))
