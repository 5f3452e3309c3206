"""The interface of every engine that generates text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from tasks.base.generation import Answer

OnAnswers = Callable[[dict[int, Answer]], None]
"""Called with finished answers, by the index of their prompt, as soon as they are there; from one thread at a time."""


def ignore_answers(answers: dict[int, Answer]) -> None:
    pass


class LogitsNotFinite(Exception):
    """A model computed NaN or infinity: its weights are damaged, or its precision is too low."""


class MemoryExhausted(Exception):
    """Memory ran out."""


class WorkerKilled(MemoryExhausted):
    """A worker process ended before its work, most likely because memory ran out."""


class Engine(Protocol):
    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_answers: OnAnswers = ignore_answers
    ) -> list[Answer]:
        """The greedy answer to each prompt (token ids), in order.

        An answer ends at an end token, after `max_new_tokens` tokens, or where the model's context is full.

        Raises:
            LogitsNotFinite: the model computes NaN.
            MemoryExhausted: memory ran out, or a process of the engine was killed. `on_answers` has been called with all earlier
                answers.
            SourceError: a server fails or refuses, after the same calls.
        """
        ...
