"""Which feedback on an answer counts, and what it makes of the answer: corrected, good, bad, or nothing. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from tasks.feedback.judged import JudgedAnswer
from tasks.feedback.records import Feedback

GOOD_FROM = 0.5
"""The lowest rating of a good answer, where a source names none."""


@dataclass(frozen=True)
class Selection:
    """What a source collects."""

    family: str
    rating: str | None = None
    """The name of the ratings that make rows; None: no rating does."""
    rating_min: float | None = None
    feedback_from: tuple[str, ...] = ("human",)
    cap_per_user: int | None = None
    free_prompts: bool = False
    """Answers to chat messages, which name no family, in place of those of the family."""


@dataclass
class Judgement:
    """What counts of the feedback on an answer."""

    judged: JudgedAnswer
    deciding: list[Feedback] = field(default_factory=list)
    """Feedback that decides: one demonstration, or ratings; empty if nothing does."""
    correction: str = ""
    is_good: bool | None = None
    """By the majority of the users; None if they are divided, or nobody rated it."""
    comments: list[str] = field(default_factory=list)


def judgements(answers: Iterable[JudgedAnswer], selection: Selection, over_cap: Counter[str]) -> Iterator[Judgement]:
    """A judgement of each answer of the source's family.

    Args:
        answers: in the order in which they were first judged: a user's first answers count.
        over_cap: the answers by user whose feedback does not count, because the user has judged as many as `cap_per_user`.
    """
    answers_of: Counter[str] = Counter()
    for judged in answers:
        if judged.response.error or not _is_of_source(judged, selection):
            continue
        items = [item for item in judged.feedback if item.source in selection.feedback_from]
        users = {item.user for item in items}
        capped = {user for user in users if answers_of[user] >= (selection.cap_per_user or float("inf"))}
        over_cap.update(capped)
        answers_of.update(users - capped)
        yield _judgement(judged, [item for item in items if item.user not in capped], selection)


def _is_of_source(judged: JudgedAnswer, selection: Selection) -> bool:
    prompt = judged.response.prompt
    if selection.free_prompts:
        return "messages" in prompt
    return prompt.get("family") == selection.family


def _judgement(judged: JudgedAnswer, items: list[Feedback], selection: Selection) -> Judgement:
    texts = ((item.value if item.type == "comment" else item.explanation) for item in items)
    result = Judgement(judged, comments=[str(text) for text in texts if text])
    if demonstrations := [item for item in items if item.type == "demonstration" and item.value]:
        result.deciding, result.correction = demonstrations[-1:], str(demonstrations[-1].value)
        return result
    ratings = [item for item in items if item.name == selection.rating and not isinstance(item.value, str)]
    latest = {item.user: item for item in ratings}  # a user has one vote
    least = GOOD_FROM if selection.rating_min is None else selection.rating_min
    good = [item for item in latest.values() if float(item.value) >= least]
    bad = [item for item in latest.values() if float(item.value) < least]
    if len(good) != len(bad):
        result.is_good = len(good) > len(bad)
        result.deciding = good if result.is_good else bad
    return result
