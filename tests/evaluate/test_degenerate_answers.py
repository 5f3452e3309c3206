"""Degenerate answers score 0 and are counted by reason; people's answers, in Chinese and English, are none of them."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from support.realdata import real

from tasks.evaluate.predictions import TOO_LONG, score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.degenerate_answers import degenerate_reason
from tasks.scoring.score import score_answer

ENGLISH = ("What is the capital of France?", "The capital of France is Paris.")
CHINESE = ("法国的首都是哪里？", "法国的首都是巴黎。")
LONG_ENGLISH = "I think that the capital of that country must be Paris."
LONG_CHINESE = "我认为那个国家的首都应该就是巴黎这座城市。"

DEGENERATE = [
    ("empty", "  \n", *ENGLISH),
    ("empty", "", *CHINESE),
    ("loop", "It is Paris, and that is that. " * 4, *ENGLISH),
    ("loop", "我有一个系统，我有一个系统，我有一个系统，我", *CHINESE),
    ("encoding_damage", "渀常\ufffd\ufffd常\ufffd首都常\ufffd帀", *CHINESE),
    ("encoding_damage", "The capital of \ufffd\ufffd is \ufffd a city", *ENGLISH),
    ("encoding_damage", "\ufffd\ufffd \ufffd", *CHINESE),
    ("template_leaked", "It is Paris.<|im_start|>user", *ENGLISH),
    ("template_leaked", "是巴黎。<|im_end|>", *CHINESE),
    ("template_leaked", "是巴黎。<｜User｜>还有呢？", *CHINESE),
    ("template_leaked", "It is Paris. [/INST] And of Spain? [INST]", *ENGLISH),
    ("template_leaked", "It is Paris.\n\n### Instruction:\nName a river.", *ENGLISH),
    ("template_leaked", "是巴黎。\n\n### 指令：\n说出一条河。", *CHINESE),
    ("template_leaked", "It is Paris.\n\nHuman: And of Spain?", *ENGLISH),
    ("template_leaked", "It is Paris.\nUser: And of Spain?\nAssistant: Madrid.", *ENGLISH),
    ("template_leaked", "是巴黎。\n用户：西班牙呢？\n助手：马德里。", *CHINESE),
    ("template_leaked", "It is Paris.\nuser\nAnd of Spain?\nassistant\nMadrid.", *ENGLISH),
    ("template_leaked", "It is Paris.</s>", *ENGLISH),
    ("wrong_script", LONG_ENGLISH, *CHINESE),
    ("wrong_script", LONG_CHINESE, *ENGLISH),
    ("wrong_script", "Я думаю, что столица этой страны называется Париж.", *ENGLISH),
    ("wrong_script", "その国の首都はパリだと思います。そうではないでしょうか。", *ENGLISH),
]


@pytest.mark.parametrize(("reason", "answer", "question", "target"), DEGENERATE)
@pytest.mark.parametrize("kind", ["qa", "free", "summary"])
def test_a_degenerate_answer_scores_nothing(kind: str, reason: str, answer: str, question: str, target: str) -> None:
    scored = score_answer(kind, answer, target, question=question)
    assert (scored.score, scored.exact, scored.degenerate) == (0.0, False, reason)


PERMITTED = [
    ("The control token <|im_start|> begins a turn.", "What does <|im_start|> mean?", "It begins a turn."),
    ("Write [INST] before it.", "How does Llama 2 mark a question?", "By [INST] and [/INST]."),
    ("User: Hello.\nAssistant: Hello!", "Write a short dialogue between a user and an assistant.", "A: Hi.\nB: Hi."),
    ("用户：你好。\n助手：你好！", "写一段用户和助手的对话。", "甲：你好。\n乙：你好。"),
    ("Chromosomes:\nDog: 78\nHuman: 46\nHorse: 64", "List numbers of chromosomes.", "46 in humans, 78 in dogs."),
    ("Host: db\nUser: root\nPassword: x", "Give me an example of credentials.", "user=root"),
    ("Use <s>old</s> for old prices.", "How do I strike text in HTML?", "With <del>."),
    ("f <| g |> h", "How are functions piped in F#?", "By |>."),
    ("They are:\nadmin\nuser\nguest", "List the roles.", "admin, user, guest"),
    (LONG_ENGLISH, "请用英语回答：法国的首都是哪里？", "The capital of France is Paris."),
    (LONG_CHINESE, "Translate into Chinese: I think that it is Paris.", "我认为是巴黎。"),
    (LONG_CHINESE, "法国的首都是哪里？", "Paris, the capital."),
    ("William Shakespeare", "谁写了《哈姆雷特》？", "莎士比亚"),
    ("阿诺德·施瓦辛格", "Who played the Terminator?", "Arnold Schwarzenegger"),
    ("42", "六乘以七等于多少？", "四十二"),
    (
        "Python、Java、C++、JavaScript、Ruby、Go、Rust、Swift",
        "列出八种编程语言。",
        "Python、C、C++、Java、Perl、PHP、Lua、R",
    ),
    ("for i in range(10):\n    print(i, f(i), g[i])\n    x = h(i); y = k(i)", "如何打印十个数？", "用循环打印。"),
    (
        "```python\nimport this or that and the other with some names of words\n```\n用循环。",
        "如何打印？",
        "用循环打印。",
    ),
    ("用 Python 的 NumPy 库。", "如何在Python中排序？", "用 sort 函数。"),
    (LONG_ENGLISH, "1 + 1 = ?", "2"),
    (LONG_CHINESE + "\ufffd\ufffd", "法国的首都是哪里？", "巴黎。"),
    (LONG_ENGLISH + " \ufffd " + LONG_ENGLISH, "Which city is it?", "Paris, the capital."),
    ("It is written \ufffd.", "How does a decoder write a byte that is no character?", "As \ufffd."),
]


@pytest.mark.parametrize(("answer", "question", "target"), PERMITTED)
def test_an_answer_that_a_person_might_write_is_not_degenerate(answer: str, question: str, target: str) -> None:
    assert degenerate_reason(answer, target, question) is None


@pytest.mark.parametrize("kind", ["translation", "code"])
@pytest.mark.parametrize(("answer", "pair"), [(LONG_ENGLISH, CHINESE), (LONG_CHINESE, ENGLISH)])
def test_translations_and_code_may_be_in_another_script(kind: str, answer: str, pair: tuple[str, str]) -> None:
    assert score_answer(kind, answer, pair[1], question=pair[0]).degenerate is None


@pytest.mark.parametrize(("question", "target"), [ENGLISH, CHINESE])
def test_an_answer_that_the_token_limit_cut_off_is_degenerate_unless_it_is_right(question: str, target: str) -> None:
    half = target[: len(target) // 2]
    assert score_answer("qa", half, target, question=question).score > 0
    cut = score_answer("qa", half, target, question=question, is_cut=True)
    assert (cut.score, cut.degenerate) == (0.0, "cut_off")
    assert score_answer("qa", target, target, question=question, is_cut=True).degenerate is None
    thought = score_answer("qa", "<think>\nLet me see.", target, question=question, is_cut=True)
    assert (thought.score, thought.degenerate) == (0.0, "cut_off")
    assert score_answer("qa", "<think>\nLet me see.", target, question=question).degenerate == "empty"


@pytest.mark.parametrize(
    ("kind", "target"),
    [("classification", "sport"), ("entities", '[{"type": "PER", "text": "安"}]'), ("json", '{"a": 1}')],
)
def test_of_an_answer_with_a_parser_only_an_empty_one_is_degenerate(kind: str, target: str) -> None:
    empty, cut = score_answer(kind, " ", target), score_answer(kind, target[:3], target, is_cut=True)
    assert (empty.score, empty.degenerate, cut.degenerate) == (0.0, "empty", None)
    assert score_answer("relation", "", "Other").degenerate == "empty"


def row(number: int, target: str, **more: Any) -> dict[str, Any]:
    fixed = {"batch": "b", "family": "qa", "kind": "qa", "language": "en", "prompt": "p", "question": "Which city?"}
    return {"row_id": f"r{number}", "target": target, **fixed, **more}


def test_the_report_counts_degenerate_answers_by_reason() -> None:
    rows = score_rows(
        [row(1, "Paris."), row(2, "Paris."), row(3, "Paris is a city.", **{TOO_LONG: True}), row(4, "Rome.")],
        ["", "It is", "Paris is", "Rome."],
        [False, True, True, False],
    )
    assert [r["degenerate"] for r in rows] == ["empty", "cut_off", None, None]
    assert [r["is_cut"] for r in rows] == [False, True, True, False]
    assert rows[2]["score"] > 0
    counts = {
        "rows": 2,
        "empty": 1,
        "loop": 0,
        "encoding_damage": 0,
        "template_leaked": 0,
        "wrong_script": 0,
        "cut_off": 1,
    }
    measured = describe_model(rows, EvaluateSettings(bootstrap_samples=100))["families"]["qa"]
    assert measured["degenerate"] == counts
    assert measured["target_too_long"] == 1


def alpaca_pairs(language: str) -> list[tuple[str, str]]:
    rows = json.loads(real(f"llamafactory/alpaca_{language}_demo.json").read_text(encoding="utf-8"))
    return [(f"{row['instruction']}\n{row['input']}", row["output"]) for row in rows]


def t0_pairs() -> list[tuple[str, str]]:
    with gzip.open(real("t0/t0.jsonl.gz"), "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for number, line in enumerate(lines) if number % 20 == 0]
    return [(row["prompt"], row["completion"].removesuffix("<|endoftext|>")) for row in rows]


@pytest.mark.parametrize("pairs", [t0_pairs, lambda: alpaca_pairs("en"), lambda: alpaca_pairs("zh")])
def test_no_answer_of_a_person_is_degenerate(pairs: Any) -> None:
    rows = [(question, answer) for question, answer in pairs() if answer.strip()]
    result = [(answer, degenerate_reason(answer, answer, question)) for question, answer in rows]
    assert [pair for pair in result if pair[1]] == []
    others = [answer for _, answer in rows[1:] + rows[:1]]  # without the exception for what the target repeats
    reasons = [
        degenerate_reason(answer, other, question) for (question, answer), other in zip(rows, others, strict=True)
    ]
    assert not {"loop", "template_leaked", "empty", "cut_off"} & set(reasons)


@pytest.mark.parametrize(("language", "other"), [("en", "zh"), ("zh", "en")])
def test_most_answers_in_another_script_are_degenerate(language: str, other: str) -> None:
    rows, foreign = alpaca_pairs(language), [answer for _, answer in alpaca_pairs(other) if len(answer) > 120]
    reasons = [
        degenerate_reason(answer, target, question)
        for (question, target), answer in zip(rows, foreign, strict=False)
        if len(target) > 60
    ]
    assert reasons.count("wrong_script") > 0.9 * len(reasons) > 90
