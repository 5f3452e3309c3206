"""The parts of a text that are removed: none is lost, none overlaps, and Chinese is split like English."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tasks.explain.parts import FAN_OUT, all_parts, leaves, parts_of, without

LONG = "Ann lives in Paris. She likes tea, cats, and books! 她住在巴黎，喜欢猫。对吗？\n" * 40


def texts_of(text: str, level: str) -> list[str]:
    return [part.text({"input": text}) for part in all_parts(parts_of("input", text)) if part.level == level]


@pytest.mark.parametrize(
    ("text", "sentences", "words"),
    [
        ("What is 3 + 4? Answer.", ["What is 3 + 4? ", "Answer."], ["What ", "is ", "3 ", "+ ", "4"]),
        ("猫在哪儿？在家。", ["猫在哪儿？", "在家。"], ["猫", "在", "哪", "儿", "在", "家"]),
    ],
)
def test_a_text_is_split_into_sentences_and_words(text: str, sentences: list[str], words: list[str]) -> None:
    assert texts_of(text, "sentence") == sentences
    assert texts_of(text, "word") == words


def test_a_decimal_point_ends_no_sentence() -> None:
    assert texts_of("It costs 3.50 euros, e.g. here", "sentence") == ["It costs 3.50 euros, e.g. ", "here"]


@pytest.mark.parametrize("text", [LONG, "word " * 500, "字" * 700, "", " \n ", "?!"])
def test_children_lie_within_their_part_in_order_and_are_few(text: str) -> None:
    for part in all_parts(parts_of("input", text)):
        assert len(part.children) <= FAN_OUT
        assert len(part.children) != 1
        edges = [part.start, *(edge for child in part.children for edge in (child.start, child.end)), part.end]
        assert edges == sorted(edges)


def test_each_word_of_a_long_text_is_in_a_smallest_part() -> None:
    smallest = list(leaves(parts_of("input", LONG)))
    assert all(first.end <= second.start for first, second in pairwise(smallest))
    covered = "".join(part.text({"input": LONG}) for part in smallest)
    assert [c for c in covered if c.isalnum()] == [c for c in LONG if c.isalnum()]


def test_removed_parts_leave_the_other_fields_and_the_rest_of_the_text() -> None:
    texts = {"instruction": "Say hello to Ann", "input": "你好，安"}
    first, second = (list(leaves(parts_of(name, text))) for name, text in texts.items())
    assert without(texts, [first[1], first[3], second[0]]) == {"instruction": "Say to ", "input": "好，安"}
