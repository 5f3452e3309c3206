"""Two answers to one question, and the judge's verdict on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Winner = Literal["A", "B", "tie"]


@dataclass(frozen=True)
class Pair:
    """Two answers. `A` and `B` name the first and the second throughout; a prompt may show them in the other order."""

    rubric: str
    """The name of its rubric: a family, or `default`."""
    language: str
    question: str
    target: str
    answer_a: str
    answer_b: str

    @property
    def swapped(self) -> Pair:
        return Pair(self.rubric, self.language, self.question, self.target, self.answer_b, self.answer_a)


@dataclass(frozen=True)
class PairVerdict:
    winner: Winner
    is_flip: bool = False
    """The verdict depends on the order: a tie."""
    unparsed: int = 0
    """Answers of the judge, of two, that were not a verdict."""
    is_judged: bool = True
    """False: decided without an answer of the judge."""
    is_refused: bool = False
    """The endpoint refuses one of its prompts, such as by their length: a tie."""


EQUAL = PairVerdict("tie", is_judged=False)
REFUSED = PairVerdict("tie", is_judged=False, is_refused=True)
_OTHER: dict[Winner, Winner] = {"A": "B", "B": "A", "tie": "tie"}


def combine_orders(first: Winner | None, second: Winner | None) -> PairVerdict:
    """The verdict from both orders; None stands for an answer that is not a verdict.

    Args:
        first: the winner as the prompt with the pair's order names it.
        second: the winner as the prompt with the swapped order names it.
    """
    if first is None or second is None:
        return PairVerdict("tie", unparsed=(first is None) + (second is None))
    if first == _OTHER[second]:
        return PairVerdict(first)
    return PairVerdict("tie", is_flip=True)
