"""False answers: content that the context does not carry; targets are carried, and targets of other rows are not."""

from __future__ import annotations

import gzip
import json
import random

import pytest
from support.realdata import real

from tasks.evaluate.predictions import score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.grounding import is_carried, is_unsupported

ENGLISH = (
    "Question: Who founded it? Context: Acme was founded in March 1998 by Ann Lee, who sold 1,200 shares in five days. "
    "Its founders manufacture wooden toys near Lake Como."
)
CHINESE = "问题：公司是谁创立的？背景：1998年3月，李明在上海创立了这家公司，共有一千二百名员工，并出版了《玩具之书》。"


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("Ann Lee", ENGLISH),
        ("It was founded by Ann Lee.", ENGLISH),
        ("The founder is Lee; the toys are manufactured in wood.", ENGLISH),
        ("1200 shares", ENGLISH),
        ("In 5 days.", ENGLISH),
        ("According to the text, the answer is March 1998.", ENGLISH),
        ("It makes toys.", ENGLISH),
        ("", ENGLISH),
        ("李明", CHINESE),
        ("根据原文，公司由李明创立。", CHINESE),
        ("是在上海创立的", CHINESE),
        ("共有1200名员工", CHINESE),
        ("《玩具之书》", CHINESE),
        ("一九九八年", CHINESE),
    ],
)
def test_an_answer_from_the_context_is_carried(answer: str, evidence: str) -> None:
    assert is_carried(answer, evidence)


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("Bob Stone", ENGLISH),
        ("It was founded by Bob.", ENGLISH),
        ("Acme was founded in 1999.", ENGLISH),
        ("He sold 12,000 shares.", ENGLISH),
        ("six days", ENGLISH),
        ("Cheap plastic furniture", ENGLISH),
        ("王芳", CHINESE),
        ("公司由王芳创立。", CHINESE),
        ("1999年", CHINESE),
        ("共有一千三百名员工", CHINESE),
        ("《木偶之书》", CHINESE),
        ("是在北京创立的", CHINESE),
    ],
)
def test_another_name_number_or_content_is_unsupported(answer: str, evidence: str) -> None:
    assert not is_carried(answer, evidence)


@pytest.mark.parametrize(
    ("answer", "target"),
    [
        ("Bob Stone.", "bob stone"),
        ("It is Bob Stone", "Bob Stone, the painter"),
        ("The text does not say.", "Ann Lee"),
        ("It is not mentioned in the passage who wrote Faust.", "Ann Lee"),
        ("文中没有提到王芳。", "李明"),
        ("无法确定。", "李明"),
    ],
)
def test_neither_the_target_nor_a_refusal_is_a_false_answer(answer: str, target: str) -> None:
    assert not is_unsupported(answer, target, ENGLISH + CHINESE)


@pytest.mark.parametrize(
    "answer",
    [
        "I do not know, but it was Bob Stone.",
        "The text does not say, but probably Berlin.",
        "我不知道，不过应该是赵六。",
        "文中没有提到，但我猜是《木偶之书》。",
    ],
)
def test_a_false_answer_after_a_refusal_is_one(answer: str) -> None:
    assert is_unsupported(answer, "Ann Lee", ENGLISH + CHINESE)


@pytest.mark.parametrize("answer", ["I don't know, though.", "无法确定，但您可以查阅原文。", "不清楚，文中没有写。"])
def test_a_refusal_with_an_explanation_is_one(answer: str) -> None:
    assert not is_unsupported(answer, "Ann Lee", ENGLISH + CHINESE)


@pytest.mark.parametrize(
    ("answer", "evidence"),
    [
        ("25", "Twenty-five people came."),
        ("Twenty-five people", "25 people came."),
        ("八千六百八十七亿元", "收入为8,687亿元。"),
        ("1.5万", "共有15000名员工。"),
    ],
)
def test_a_number_may_be_written_in_another_way_and_have_no_other_size(answer: str, evidence: str) -> None:
    assert is_carried(answer, evidence)
    assert not is_carried(answer, evidence.replace("ve", "x").replace("8,687", "8,686").replace("5", "6"))


def test_only_questions_about_a_context_are_measured_by_family_with_an_interval() -> None:
    fixed = {
        "batch": "b",
        "source": "s",
        "use": "train",
        "family": "qa",
        "language": "en",
        "kind": "qa",
        "target": "Ann Lee",
    }
    texts = {"prompt": ENGLISH, "instruction": "Who founded it?", "input": ENGLISH}
    test = [{"row_id": f"r{i}", **fixed, **texts} for i in range(4)]
    test += [
        {"row_id": "r4", **fixed, **texts, "input": ""},
        {"row_id": "r5", **fixed, **texts, "kind": "free", "family": "f"},
    ]
    rows = score_rows(test, ["Ann Lee", "Ann", "Bob Stone", "Not mentioned.", "Bob Stone", "Bob Stone"])
    assert [row["unsupported"] for row in rows] == [False, False, True, False, None, None]
    grounding = describe_model(rows, EvaluateSettings(bootstrap_samples=100))["grounding"]
    assert list(grounding) == ["qa"]
    assert (grounding["qa"]["unsupported"], grounding["qa"]["rows"]) == (0.25, 4)
    low, high = grounding["qa"]["interval"]
    assert 0 < low < 0.25 < high < 1
    assert "grounding" not in describe_model(rows[4:], EvaluateSettings(bootstrap_samples=100))


def test_real_targets_are_carried_and_those_of_other_rows_are_not() -> None:
    rows = []
    with gzip.open(real("t0/t0.jsonl.gz"), "rt", encoding="utf-8") as lines:
        for record in map(json.loads, lines):
            answer = record["completion"].replace("<|endoftext|>", "").strip(" .\n")
            is_extractive = any(name in record["task"] for name in ("adversarial_qa", "quoref"))
            if is_extractive and 0 < len(answer.split()) <= 12 and answer.casefold() in record["prompt"].casefold():
                rows.append((record["prompt"], answer))
    rows = random.Random(1).sample(rows, 300)
    frame = "According to the passage, the answer is {}."
    assert sum(not is_carried(frame.format(answer), prompt) for prompt, answer in rows) <= 3
    others = [
        (prompt, answer)
        for (prompt, _), (_, answer) in zip(rows, rows[1:] + rows[:1], strict=True)
        if answer.casefold() not in prompt.casefold()
    ]
    assert sum(not is_carried(frame.format(answer), prompt) for prompt, answer in others) > 0.97 * len(others) > 250
