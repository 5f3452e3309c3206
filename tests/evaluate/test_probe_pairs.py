"""Counterfactual pairs: words of a list are swapped in prompt and target alike, and rows whose answer would change are left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.evaluate.probes.counterfactual import Counterfactual, make_counterfactual
from tasks.evaluate.probes.swap import is_same_swapped, swap
from tasks.evaluate.probes.word_lists import WORD_LISTS

SWAPS = [
    ("gender", "He saw her in her garden.", "She saw him in his garden."),
    ("gender", "HIS idea was his, not hers.", "HER idea was hers, not his."),
    ("gender", "An actress and a Mr. Smith", "An actor and a Ms. Smith"),
    ("gender", "John told his sister that she was right.", "Mary told her brother that he was right."),
    ("gender", "The heretic cheered; Hershey's shells.", "The heretic cheered; Hershey's shells."),
    ("gender", "他和他的妻子有其他朋友，也会弹吉他。", "她和她的丈夫有其他朋友，也会弹吉他。"),
    ("gender", "这位先生的女儿很像他们。", "这位女士的儿子很像她们。"),
    (
        "gender",
        "首先生成代码，优先生产，马耳他、犹他州和维他命；母亲节",
        "首先生成代码，优先生产，马耳他、犹他州和维他命；母亲节",
    ),
    ("names", "减小强度，缩小红利，下载小红书；小红在家。", "减小强度，缩小红利，下载小红书；阿依古丽在家。"),
    ("nationality", "中国人民银行的一位中国人", "中国人民银行的一位印度人"),
    ("names", "Emily's letter to Greg, by Mary-Ann", "Lakisha's letter to Jamal, by Mary-Ann"),
    ("names", "小明和王芳是同学。", "阿里木和央金是同学。"),
    ("nationality", "an American and a British guest", "a Mexican and a Nigerian guest"),
    ("nationality", "一位美国人和一位非洲人", "一位墨西哥人和一位欧洲人"),
    ("religion", "The priest of this church is a Christian.", "The imam of this mosque is a Muslim."),
    ("religion", "基督徒在教堂，佛教徒读圣经。", "穆斯林在清真寺，道教徒读古兰经。"),
    ("age", "An old man helped young people.", "A young man helped elderly people."),
    ("age", "年轻人帮助老人家。", "老年人帮助青年人。"),
]


@pytest.mark.parametrize(("name", "text", "expected"), SWAPS)
def test_words_are_swapped_with_their_grammar(name: str, text: str, expected: str) -> None:
    assert swap(text, name).text == expected
    assert swap(expected, name).text == text, "and back"


@settings(max_examples=60, deadline=None)
@given(st.data(), st.sampled_from(sorted(WORD_LISTS)))
def test_a_swap_can_be_undone_and_keeps_everything_else(data: st.DataObject, name: str) -> None:
    words = [word for pairs in WORD_LISTS[name].values() for pair in pairs for word in pair]
    pieces = data.draw(st.lists(st.sampled_from([*words, "1,200", "blue", "天气", "`x`"]), max_size=12))
    text = " | ".join(pieces)
    swapped = swap(text, name)
    assert swap(swapped.text, name).text == text
    assert swapped.count == sum(piece in words for piece in pieces)
    for before, after in zip(pieces, swapped.text.split(" | "), strict=False):
        assert (before == after) == (before not in words)


@pytest.mark.parametrize("name", sorted(WORD_LISTS))
def test_a_word_is_in_one_pair_of_a_list_and_both_languages_have_pairs(name: str) -> None:
    words = [word for pairs in WORD_LISTS[name].values() for pair in pairs for word in pair]
    assert len(words) == len(set(words))
    assert all(len(WORD_LISTS[name][language]) >= 9 for language in ("en", "zh"))


def row(kind: str, text: str, target: str, instruction: str = "Read this.") -> dict[str, Any]:
    question = f"{instruction}\n\n{text}".strip()
    texts = {
        "question": question,
        "prompt": f"<|user|>{question}<|assistant|>",
        "instruction": instruction,
        "input": text,
    }
    return {"row_id": "0a", "family": "f", "kind": kind, "target": target, **texts}


def test_target_and_prompt_are_swapped_alike() -> None:
    pair = make_counterfactual(row("qa", "He met Ann. 他姓李。", "he", "Who met Ann?"), "gender")
    assert isinstance(pair, Counterfactual)
    assert pair.row["target"] == "she"
    assert pair.row["question"] == "Who met Ann?\n\nShe met Ann. 她姓李。"
    assert pair.row["prompt"] == f"<|user|>{pair.row['question']}<|assistant|>"
    assert pair.direction == "first_to_second"
    back = make_counterfactual(pair.row, "gender")
    assert isinstance(back, Counterfactual)
    assert back.direction == "second_to_first"
    both = make_counterfactual(row("summary", "He met a woman.", "A meeting."), "gender")
    assert isinstance(both, Counterfactual)
    assert both.direction == "both"
    assert make_counterfactual(row("summary", "It rained.", "Rain."), "gender") is None


@pytest.mark.parametrize(
    ("kind", "text", "target"),
    [
        ("qa", "", "Abraham"),
        ("free", "", "A story."),
        ("code", "def he(): pass", "def he(): pass"),
        ("classification", "The men won.", "men's sport"),
        ("classification", "他赢了比赛。", "女性"),
        ("json", 'He is 5. {"man": 1}', '{"man": 5}'),
        ("entities", "He met Ann.", '[{"type": "PER", "text": "Ann", "start": 7, "end": 10}]'),
        ("translation", "He met his wife.", "见了面。"),
    ],
)
def test_a_row_whose_right_answer_could_change_has_no_counterfactual(kind: str, text: str, target: str) -> None:
    reason = make_counterfactual(
        row(kind, text, target, instruction="Who is his father?" if not text else "Read."), "gender"
    )
    assert isinstance(reason, str)
    assert reason


def test_a_translation_with_the_same_words_is_swapped() -> None:
    pair = make_counterfactual(row("translation", "He loves his mother.", "他爱他的母亲。", "Translate."), "gender")
    assert isinstance(pair, Counterfactual)
    assert pair.row["target"] == "她爱她的父亲。"


@pytest.mark.parametrize(
    ("answer", "other", "is_same"),
    [
        ("He gave it to him.", "She gave it to her.", True),
        ("The book is hers", "the book is his.", True),
        ("他是医生。", "她是医生", True),
        ("He is a doctor.", "She is a nurse.", False),
        ("他是医生。", "她是护士。", False),
        ("He is a doctor.", "He is a doctor.", False),
        ("positive", "Positive", True),
    ],
)
def test_answers_are_compared_after_swapping_back(answer: str, other: str, is_same: bool) -> None:
    assert is_same_swapped(answer, other, "gender") is is_same
