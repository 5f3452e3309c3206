"""How a raw answer is read, the same in evaluation and in use: without its thought and the template's frame, by its kind. Pure.

read = read_answer("entities", "PER: Ann", frame)
read.value, read.text, read.is_unparsed
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks.scoring.answer_parsers import parse_entities, parse_triples, written_entities, written_triples
from tasks.scoring.metrics import METRICS
from tasks.scoring.targets import NO_FRAME, Frame, parse_answer, text_of
from tasks.scoring.thoughts import THOUGHT_BEGINS, is_unfinished, without_thought

AS_WRITTEN: dict[Callable[[str], Any] | None, Callable[[str], Any]] = {
    parse_entities: written_entities,
    parse_triples: written_triples,
}
"""Parsers that fold what they read → the same without folding."""


@dataclass(frozen=True)
class ReadAnswer:
    kind: str
    answer: str
    """The answer without its thought; "" if it ends within the thought."""
    value: Any
    """The parsed value: text, JSON, or a frozenset; None if it cannot be parsed. Entities and triples are folded for comparison."""
    frame: Frame = NO_FRAME

    @property
    def is_unparsed(self) -> bool:
        return self.value is None

    @property
    def text(self) -> str:
        """The value as one line of text; "" if it cannot be parsed."""
        return text_of(self.value)

    @property
    def as_json(self) -> Any:
        """The value for use: text, or JSON; entities and triples as objects, as they are written. None if it cannot be parsed."""
        if self.value is None or isinstance(self.value, str):
            return self.value
        written = AS_WRITTEN.get(METRICS[self.kind].parse)
        return (
            json.loads(self.text) if written is None else written(self.frame.remove_from(without_thought(self.answer)))
        )


@dataclass(frozen=True)
class AnswerReader:
    """What reads the answers to one prompt.

    Args:
        kind: of the family.
        opens_thought: the prompt ends in the tag that begins a thought.
        may_call: the prompt has tools. In evaluation the target decides whether an answer is read as calls; in use, an answer that
            can be read as calls does, and any other answer is read by the family's kind.
    """

    kind: str
    frame: Frame = NO_FRAME
    opens_thought: bool = False
    may_call: bool = False

    def read(self, answer: str) -> ReadAnswer:
        complete = complete_answer(answer, self.opens_thought)
        if not self.may_call and self.kind != "tool_calls":
            return read_answer(self.kind, complete, self.frame)
        calls = read_answer("tool_calls", complete, self.frame)
        if not calls.is_unparsed:
            return calls
        return read_answer("free" if self.kind == "tool_calls" else self.kind, complete, self.frame)


def read_answer(kind: str, answer: str, frame: Frame = NO_FRAME, *, ends_in_thought: bool = False) -> ReadAnswer:
    """Reads a complete answer (`complete_answer`).

    Args:
        frame: the constant text that the row's template writes around the target.
        ends_in_thought: the target ends within a thought, too: the tag is text.
    """
    is_empty = is_unfinished(answer) and not ends_in_thought
    text = "" if is_empty else without_thought(answer)
    return ReadAnswer(kind, text, parse_answer(kind, text, frame), frame)


def complete_answer(answer: str, opens_thought: bool | None) -> str:
    """The answer with the beginning of its thought, if that is the end of its prompt."""
    return THOUGHT_BEGINS + answer if opens_thought else answer


def opens_thought(prompt: str) -> bool:
    """Does a prompt end in the tag that begins a thought?"""
    return prompt.rstrip().endswith(THOUGHT_BEGINS)
