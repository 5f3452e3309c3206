"""What writes: the interface that every generator has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class CutOff(str):
    """An answer that ends where it was cut off, at the generator's `max_tokens`: of no use but for what is whole in it."""


Keep = Callable[[int, str], None]
"""Hears each answer as soon as it is there: the place of its prompt, and the text. Called from one thread at a time."""


def keep_nothing(place: int, text: str) -> None:
    pass


class Generator(Protocol):
    def complete(self, prompts: Sequence[str], keep: Keep = keep_nothing) -> list[str]:
        """One answer a prompt, in order; a CutOff where it was not brought to its end.

        Raises:
            StropError: it cannot be reached, or refuses; `keep` has heard what was answered before.
        """
        ...
