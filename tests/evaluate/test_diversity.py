"""Diversity of answers: the values of NLTK and of the definitions, the same for Chinese and English."""

from __future__ import annotations

import random
from typing import Any

import pytest

from tasks.evaluate.free_text import describe_texts
from tasks.evaluate.predictions import score_rows
from tasks.scoring.answer_tokens import answer_tokens
from tasks.scoring.diversity import distinct_n, repetition, self_bleu
from tasks.scoring.refusals import is_refusal

ENGLISH = [
    "the cat sat on the mat",
    "the cat sat on the hat today",
    "a dog lay on the mat of the cat",
    "birds sing in the early morning light",
]
CHINESE = ["我在北京的大学学习", "我在上海的大学学习", "他喜欢在公园里散步"]


@pytest.mark.parametrize(("texts", "by_nltk"), [(ENGLISH, 0.39048491839054245), (CHINESE, 0.35022346428072265)])
def test_self_bleu_is_that_of_nltk(texts: list[str], by_nltk: float) -> None:
    """`sentence_bleu` of NLTK 3.9 with smoothing method 1, tokens as here, averaged over the texts."""
    assert self_bleu([answer_tokens(text) for text in texts]) == pytest.approx(by_nltk, abs=1e-12)


@pytest.mark.parametrize("text", ["yes", "是", "好的", "It is a city in the north.", "它是北方的城市。"])
def test_equal_texts_have_a_self_bleu_of_1_and_one_text_has_none(text: str) -> None:
    tokens = answer_tokens(text)
    assert self_bleu([tokens] * 5) == pytest.approx(1)
    assert self_bleu([tokens]) is self_bleu([tokens, []]) is self_bleu([]) is None


def test_distinct_n_and_repetition_are_shares_of_ngrams() -> None:
    assert distinct_n([["a", "b", "a"], ["a", "b"]], 1) == 2 / 5
    assert distinct_n([["a", "b", "a"], ["a", "b"]], 2) == 2 / 3
    assert distinct_n([answer_tokens("好好学习"), answer_tokens("学习")], 1) == 3 / 6
    assert distinct_n([["a"], []], 2) is None
    assert repetition(list("abcdabcd")) == 1 / 5
    assert repetition(answer_tokens("我有系统我有系统")) == 1 / 5
    assert repetition(["a", "b", "c"]) is None


@pytest.mark.parametrize(
    "refusal",
    [
        "As an AI language model, I cannot give an opinion.",
        "I'm sorry, but I can’t help with that request.",
        "作为一个人工智能语言模型，我无法回答。",
        "很抱歉，我无法提供这些信息。",
    ],
)
def test_refusals_are_recognised_in_both_languages(refusal: str) -> None:
    assert is_refusal(refusal)


@pytest.mark.parametrize(
    "answer", ["I cannot swim, but I can run.", "对不起，我迟到了。", "他无法回答这个问题。", "Sorry."]
)
def test_people_who_apologise_do_not_refuse(answer: str) -> None:
    assert not is_refusal(answer)


@pytest.mark.parametrize(
    ("answer", "answers"),
    [
        ("As an AI language model, I cannot travel, but the capital of France is Paris.", True),
        ("I'm sorry, but I can't help with that. However, it was 3.5 km.", True),
        ("抱歉，我无法提供准确信息，不过应该是巴黎。", True),
        ("作为一个人工智能语言模型，我没有感情，但巴黎是法国的首都。", True),
        ("I'm sorry, but I can't help with that, but you can ask a doctor.", False),
        ("As an AI language model, I cannot say. However, I can help you with other questions!", False),
        ("抱歉，我无法提供这些信息，但您可以查询官网。", False),
        ("对不起，我无法回答这个问题，不过我可以帮您查询。", False),
    ],
)
def test_a_refusal_followed_by_an_answer_is_none(answer: str, answers: bool) -> None:
    assert is_refusal(answer) is not answers


def row(number: int, target: str, language: str, kind: str = "qa") -> dict[str, Any]:
    fixed = {"batch": "b", "family": "qa", "kind": kind, "prompt": "p", "question": ""}
    return {"row_id": f"r{number}", "target": target, "language": language, **fixed}


def test_a_family_has_the_measures_of_its_answers_and_targets() -> None:
    test = [
        row(1, "<think>\nHm.\n</think>\nIt is a city.", "en"),
        row(2, "它是城市。", "zh"),
        row(3, "一条河", "mixed"),
        row(4, "7", "en"),
    ]
    rows = score_rows(test, ["It is a town.", "It is a town.", "作为一个人工智能语言模型，我无法回答。", "7"])
    measured = describe_texts(rows, "seed")["free_text"]
    answers, targets = measured["answers"], measured["targets"]
    assert answers["distinct_1"] == pytest.approx((4 + 17 + 1) / (4 + 4 + 17 + 1), abs=1e-5)
    assert targets["distinct_1"] == 1
    assert answers["length_ratio"] == pytest.approx(26 / 12, abs=1e-5)
    assert (answers["in_target_language"], answers["in_question_language"]) == (0.666667, 0.5)
    assert (answers["refusals"], targets["refusals"]) == (0.25, 0.0)
    assert (answers["repetition"], targets["repetition"]) == (0, 0)
    assert 0 < targets["self_bleu"] < answers["self_bleu"] < 1
    assert describe_texts([row | {"kind": "json"} for row in rows], "seed") == {}


def test_the_sample_of_self_bleu_is_the_same_for_every_model() -> None:
    words = [f"w{number}" for number in range(50)]
    texts = [" ".join(random.Random(number).choices(words, k=12)) for number in range(300)]
    test = [row(number, text, "en") for number, text in enumerate(texts)]
    one, other = (describe_texts(score_rows(test, answers), "seed")["free_text"] for answers in (texts, texts[::-1]))
    assert one["targets"] == other["targets"]
    assert one["answers"]["self_bleu"] == one["targets"]["self_bleu"] != other["answers"]["self_bleu"]
