"""The simulated population of `strop demo --loop`: who asks about which article, and what they say of the answer. Pure.

Everything follows from the number of a question, so that two demos differ in times alone. Whether a user says anything does not
depend on the answer: otherwise the rows made of feedback would be mostly the champion's errors, and a comparison on them unfair.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from flows.demo.data import Record

USERS = 24
SEED = "a population of readers"
NEW_SHARE = 0.7
"""Of the questions: about sections that the first model has not learned."""
RESPONSE_SHARE = 0.75
"""Of the answers: those of which the user says anything."""
CORRECTION_SHARE = 0.85
"""Of a wrong answer's feedback: corrections; the others rate it."""
WRONG_SHARE = 0.02
"""Of the corrections: those with a wrong section."""


@dataclass(frozen=True)
class Question:
    number: int
    user: str
    text: str
    section: str
    """The true one."""

    @property
    def body(self) -> dict[str, Any]:
        """Of `POST /v1/predict`. As in training, a long article is shortened."""
        metadata = {"conversation": f"question {self.number}"}
        return {
            "family": "topic",
            "fields": {"text": self.text},
            "truncate": True,
            "user": self.user,
            "metadata": metadata,
        }


def questions(articles: Sequence[Record], learned: Sequence[str], trained: Sequence[Record]) -> Iterator[Question]:
    """The questions, each about another article, until the articles of one kind are used up.

    Args:
        learned: the sections of the first model.
        trained: its articles, about which nobody asks.
    """
    seen = {article["text"] for article in trained}
    fresh = list({article["text"]: article for article in articles if article["text"] not in seen}.values())
    known = iter([article for article in fresh if article["label"] in learned])
    new = iter([article for article in fresh if article["label"] not in learned])
    names = [f"reader-{index:02}" for index in range(1, USERS + 1)]
    weights = [index**-0.5 for index in range(1, USERS + 1)]  # some ask much more than others
    draw = random.Random(SEED)
    number = 0
    while True:
        article = next(new if draw.random() < NEW_SHARE else known, None)
        if article is None:
            return
        number += 1
        (user,) = draw.choices(names, weights)
        yield Question(number, user, article["text"], article["label"])


def feedback_on(question: Question, answer: str, sections: Sequence[str]) -> dict[str, Any] | None:
    """What the user says of an answer: a correction, a rating, or nothing. Of `POST /v1/feedback`, without `response_id`."""
    draw = random.Random(f"{SEED}: question {question.number}")
    responds, corrects, errs = (draw.random() for _ in range(3))
    if responds >= RESPONSE_SHARE:
        return None
    if answer == question.section or corrects >= CORRECTION_SHARE:
        return {"value": answer == question.section, "user": question.user}
    others = [section for section in sections if section != question.section]
    section = draw.choice(others) if errs < WRONG_SHARE else question.section
    return {"type": "demonstration", "value": section, "user": question.user}
