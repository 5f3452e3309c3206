"""Statistics of a row's text, equal in English and Chinese."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.curate.cleaning.quality import Measures, measure
from tasks.records.segmentation import segment


def measured(output: str, instruction: str = "Say it.", given: str = "") -> Measures:
    return measure({"instruction": instruction, "input": given, "output": output})


@pytest.mark.parametrize(
    "text",
    [
        "The cat sat on the mat while the dog slept under a tree, and nothing else happened all day.",
        "春天来了，花园里的樱花开得很美，孩子们在草地上奔跑，老人们坐在长椅上晒太阳。",
    ],
)
def test_good_text_repeats_nothing_and_a_repeated_text_repeats_half(text: str) -> None:
    assert measured(text).repetition == 0
    assert measured(f"{text}\n{text}").repetition == pytest.approx(0.5, abs=0.08)
    assert measured(f"{text}\n" * 20).repetition > 0.9


@pytest.mark.parametrize("text", ["", "yes", "是的", "no no no", "   \n \n"])
def test_text_too_short_to_repeat_has_no_repetition(text: str) -> None:
    assert measured(text).repetition == 0


@pytest.mark.parametrize(
    ("text", "share"),
    [("abcd", 0), ("ab, c", 0.2), ("####", 1), ("中文，好", 0.25), ("＃＃★★", 1), ("", 0), ("a_b'", 0.5)],
)
def test_symbols_are_counted_alike_in_both_languages(text: str, share: float) -> None:
    assert measured(text).symbol_share == pytest.approx(share)


@pytest.mark.parametrize(
    ("instruction", "given", "output", "ratio"),
    [
        ("Name two colours.", "", "Red, blue, and don't forget green and grey.", 8 / 3),
        ("说两种颜色", "", "红色、蓝色和绿色。", 7 / 5),
        ("Translate:", "hello world", "你好，世界", 4 / 3),
        ("", "", "one two", 2),
    ],
)
def test_the_length_ratio_counts_the_segments_that_all_rooms_count(
    instruction: str, given: str, output: str, ratio: float
) -> None:
    assert measured(output, instruction, given).length_ratio == pytest.approx(ratio)
    segments = len(segment(output)) / max(len(segment(f"{instruction}\n{given}")), 1)
    assert measured(output, instruction, given).length_ratio == pytest.approx(segments)


@pytest.mark.parametrize(
    "text",
    [
        "As an AI language model, I cannot express feelings.",
        "I'm sorry, but I can’t assist with that request.",
        "I am sorry, but as an AI language model I do not have access to the data.",
        "Unfortunately, I am an AI language model, and I do not have the capability to edit images.",
        "I cannot fulfill your request.",
        "I don't have personal opinions, but here is one.",
        "作为一个人工智能语言模型，我无法回答这个问题。",
        "作为AI助手，我没有实体。",
        "很抱歉，我无法提供实时信息。",
        "对不起，我不能协助您完成这个。",
        "由于我是一个语言模型，无法提供地图。",
    ],
)
def test_refusals_are_detected_in_both_languages(text: str) -> None:
    assert measured(text).is_refusal


@pytest.mark.parametrize(
    "text",
    [
        "I'm sorry, but I'm unable to come into work today due to unforeseen medical issues.",
        "Unfortunately, I cannot determine the angle given only two sides of a triangle.",
        "As an engineer, I cannot recommend this bridge.",
        "Language models such as GPT cannot feel; AI is a field of research.",
        "作为一名教师，我不能迟到。",
        "对不起，我迟到了，无法按时参加会议。",
        "你作为一个人工智能助手做得很好。",
        "抱歉，我无法确定空格处应填什么，因为句子不完整。",
    ],
)
def test_an_apology_of_a_person_is_no_refusal(text: str) -> None:
    assert not measured(text).is_refusal


@pytest.mark.parametrize(
    ("text", "toxic"),
    [
        ("What the FUCK is this", True),
        ("'bullshit', he said", True),
        ("你这个傻逼，滚开", True),
        ("Scunthorpe, shitake, Dickens and a class assignment", False),
        ("杂种优势是遗传学概念，妈妈的菜很好吃", False),
    ],
)
def test_toxic_words_are_whole_words_in_english_and_parts_in_chinese(text: str, toxic: bool) -> None:
    assert measured(text).is_toxic is toxic
    assert measured("Fine.", instruction=text).is_toxic is toxic


TEXT = st.text(max_size=60) | st.text(alphabet="ab 傻的，我\n'_１é\ud83d", max_size=60)


@given(TEXT, TEXT, TEXT)
def test_any_text_at_all_has_measures_within_their_bounds(instruction: str, given: str, output: str) -> None:
    result = measured(output, instruction, given)
    for share in (result.repetition, result.symbol_share):
        assert 0 <= share <= 1
    assert result.length_ratio >= 0


ROWS: dict[str, Any] = {
    "en": "The committee met on Tuesday to review {} proposals, and it rejected most of them for want of a budget. ",
    "zh": "委员会在星期二开会审查了{}份提案，由于预算不足，大部分被否决了，其余的留待下次讨论。",
}


@pytest.mark.parametrize("language", ROWS)
def test_measuring_a_row_of_600_characters_is_cheap(language: str) -> None:
    text = "".join(ROWS[language].format(number * 7) for number in range(40))
    row = {"instruction": text[:200], "input": "", "output": text[200:600]}
    began = time.process_time()
    for _ in range(2_000):
        measure(row)
    # measured: 18 and 40 µs a row; the bound leaves room for a machine that is busy
    assert (time.process_time() - began) / 2_000 < 400e-6
