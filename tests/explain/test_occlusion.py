"""Occlusion by Captum: the part that decides is first, forward passes are bounded, and the numbers are the same twice."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tasks.explain.explanation import AnswerPiece, of_changes
from tasks.explain.occlusion import Changes, occlude, passes_needed, shown_parts
from tasks.explain.parts import Part, parts_of, without

QUESTIONS = {
    "en": ({"instruction": "Answer briefly.", "input": "Which city is the capital of France?"}, "France"),
    "zh": ({"instruction": "请简短回答。", "input": "法国的首都是哪个城市？"}, "法"),
}
FILLER = {"en": "This sentence says nothing, and this clause neither. ", "zh": "这句话什么也没说，这里也是。"}


class Answers:
    """A model whose second answer token depends on one word, and its third on the length of the text."""

    def __init__(self, texts: dict[str, str], word: str) -> None:
        self.texts, self.word, self.passes = texts, word, 0

    def __call__(self, removed: Sequence[Sequence[Part]]) -> list[list[float]]:
        self.passes += len(removed)
        rest = ["".join(without(self.texts, parts).values()) for parts in removed]
        return [[-1.0, -0.1 if self.word in text else -3.0, -len(text) / 1e6] for text in rest]


def changes_of(texts: dict[str, str], word: str, passes: int) -> tuple[list[Part], Changes, Answers]:
    fields = [parts_of(name, text) for name, text in texts.items()]
    model = Answers(texts, word)
    changes = occlude(fields, model, model([[]])[0], passes=passes, rows=3)
    assert len(changes) <= passes_needed(fields, passes)
    return fields, changes, model


@pytest.mark.parametrize("language", QUESTIONS)
def test_the_word_that_decides_the_answer_ranks_first(language: str) -> None:
    texts, word = QUESTIONS[language]
    fields, changes, model = changes_of(texts, word, passes=200)
    answer = [AnswerPiece("a", 0.5, (0,)), AnswerPiece("b", 0.9, (1, 2))]
    attribution = of_changes("whole", texts, fields, changes, answer, {})
    first, second = attribution.top(2)
    assert first.text == word
    assert first.by_piece == pytest.approx((0, 2.9), abs=1e-3)
    assert second.value == pytest.approx(0, abs=1e-3)
    assert ["".join(span.text for span in spans) for spans in attribution.fields.values()] == list(texts.values())
    assert model.passes == len(changes) + 1


@pytest.mark.parametrize("language", QUESTIONS)
@pytest.mark.parametrize("passes", [25, 100])
def test_a_long_text_is_searched_from_sentences_down_to_the_word_in_few_passes(language: str, passes: int) -> None:
    texts, word = QUESTIONS[language]
    texts = {**texts, "input": FILLER[language] * 60 + texts["input"] + FILLER[language] * 60}
    fields, changes, model = changes_of(texts, word, passes)
    shown = shown_parts(fields, changes)
    largest = max(shown, key=lambda part: sum(changes[part]))
    assert word in largest.text(texts)
    assert (largest.text(texts) == word) == (passes == 100)
    assert model.passes <= passes + 1, "and one for the whole text"


def test_the_same_numbers_come_twice() -> None:
    texts, word = QUESTIONS["zh"]
    assert changes_of(texts, word, 200)[1] == changes_of(texts, word, 200)[1]
