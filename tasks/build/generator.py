"""The interface of every generator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol


class CutOff(str):
    """An answer that was cut off, at the generator's `max_tokens`: only its complete parts are of use."""


OnAnswer = Callable[[int, str], None]
"""Called with each answer as soon as it is there: the index of its prompt, and the text. Called from one thread at a time."""


def ignore_answer(index: int, text: str) -> None:
    pass


class Generator(Protocol):
    def complete(self, prompts: Sequence[str], on_answer: OnAnswer = ignore_answer) -> list[str]:
        """One answer per prompt, in order; a CutOff if it is incomplete.

        Raises:
            StropError: it cannot be reached, or refuses; `on_answer` was called with all earlier answers.
        """
        ...
