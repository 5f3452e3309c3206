"""The answers in the spool that have feedback, each with the latest of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.feedback.erased import read_erased
from tasks.feedback.records import FEEDBACK, RESPONSE, Answer, Feedback, ServedResponse
from tasks.feedback.spool import read_spool


@dataclass(frozen=True)
class JudgedAnswer:
    response: ServedResponse
    choice: int
    feedback: tuple[Feedback, ...]
    """The latest with each id, in order of time."""
    since: float
    """When the first feedback was given."""

    @property
    def id(self) -> str:
        """The response's id; of a choice beside the first, with its index."""
        return f"{self.response.id}#{self.choice}" if self.choice else self.response.id

    @property
    def answer(self) -> Answer:
        return self.response.answers[self.choice]


def judged_answers(
    spool: Path, damage: list[str] | None = None, reviews: Iterable[Feedback] = ()
) -> list[JudgedAnswer]:
    """In the order in which they were first judged. Texts of other responses are read, but not parsed.

    Args:
        damage: messages about damaged records are appended here.
        reviews: feedback on these answers that is not in the spool.
    """
    erased = read_erased(spool)
    first: dict[tuple[str, int], float] = {}
    latest: dict[tuple[str, int], dict[str, Feedback]] = {}
    for item in sorted([*_feedback(spool, damage), *reviews], key=lambda item: item.when):
        if item.response not in erased:
            judged = (item.response, item.choice)
            first.setdefault(judged, item.when)
            latest.setdefault(judged, {})[item.id] = item
    responses = {response.id: response for response in _responses(spool, {response for response, _ in latest})}
    answers = []
    for (response, choice), items in latest.items():
        if response in responses and choice < len(responses[response].answers):
            ordered = tuple(sorted(items.values(), key=lambda item: item.when))
            answers.append(JudgedAnswer(responses[response], choice, ordered, first[response, choice]))
    return sorted(answers, key=lambda judged: (judged.since, judged.id))


def _feedback(spool: Path, damage: list[str] | None) -> Iterator[Feedback]:
    for line in read_spool(spool, damage):
        if line.start[0] == FEEDBACK:
            yield Feedback.from_json(line.record)


def _responses(spool: Path, ids: set[str]) -> Iterator[ServedResponse]:
    for line in read_spool(spool):
        kind, response = line.start
        if kind == RESPONSE and response in ids:
            yield ServedResponse.from_json(line.record)
