"""The answers of models are parsed in both languages, and useless ones are refused with a reason."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.build.generator import CutOff
from tasks.build.paraphrase import clean_text
from tasks.build.prompts import (
    WORDS,
    Task,
    classification_prompt,
    instances_prompt,
    parse_instances,
    parse_is_classification,
    parse_tasks,
    tasks_prompt,
)
from tasks.build.refusals import drop_conflicting, refuse_instance, refuse_instruction, refuse_paraphrase


def test_the_prompt_for_new_tasks_is_a_list_to_continue() -> None:
    prompt = tasks_prompt(["Name two\ncolours.", "Count to three."], WORDS["en"])
    assert prompt == "Come up with a series of tasks:\nTask 1: Name two colours.\nTask 2: Count to three.\nTask 3:"
    assert tasks_prompt(["数到三。"], WORDS["zh"]).endswith("任务 1: 数到三。\n任务 2:")


@pytest.mark.parametrize(
    ("answer", "tasks", "cut_off"),
    [
        (
            " Name a fruit.\nTask 10: Count to four.\nTask 11: Explain why the sky is",
            ["Name a fruit.", "Count to four."],
            1,
        ),
        ("任务 3：说一种水果。\n任务 4：数到四。", ["说一种水果。", "数到四。"], 0),
        ("1. Name a fruit.\n2. Count to four.", ["Name a fruit.", "Count to four."], 0),
        ("Task 9: Sort these:\n1. b\n2. a\nTask 10: Count.", ["Sort these: 1. b 2. a", "Count."], 0),
        ("**Task 9:** Name a fruit.", ["Name a fruit."], 0),
        ("one alone without an end", ["one alone without an end"], 0),
        ("", [], 0),
        ("\n \n", [], 0),
    ],
)
def test_a_list_of_tasks_is_read_in_both_languages(answer: str, tasks: list[str], cut_off: int) -> None:
    assert parse_tasks(answer) == (tasks, cut_off)


def test_the_prompt_for_examples_has_the_input_first_and_for_a_classification_the_label_first() -> None:
    shown = [Task("Is it good?", (("I like it", "yes"), ("Bah", "no")), True)]
    assert "Class label: yes\nI like it\nClass label: no\nBah" in instances_prompt("x", shown, WORDS["en"], True)
    plain = [Task("Say hello.", (("", "Hello!"),)), Task("Add.", (("1 2", "3"),))]
    prompt = instances_prompt("做点什么", plain, WORDS["zh"], False)
    assert "任务: Say hello.\n示例 1\n输出: Hello!" in prompt
    assert "示例 1\n输入: 1 2\n输出: 3" in prompt
    assert prompt.endswith("任务: 做点什么\n")
    assert classification_prompt("x y", shown, WORDS["en"]).endswith("Task: x y\nIs it classification?")


@pytest.mark.parametrize(
    ("answer", "instances"),
    [
        ("Example 1\nInput: 1 2\nOutput: 3\n\nExample 2\nInput: 2 2\nOutput: 4", [("1 2", "3"), ("2 2", "4")]),
        ("Output: Hello,\nworld!", [("", "Hello,\nworld!")]),
        ("Input: None\nOutput: Hello", [("", "Hello")]),
        ("示例 1\n输入：一加一\n输出：二\n\n示例 2\n输入：无\n输出：三", [("一加一", "二"), ("", "三")]),
        ("Example 1\nPassage: rain\nQuestion: wet?\nOutput: yes", [("Passage: rain\nQuestion: wet?", "yes")]),
        ("Output: a\n\nTask: something else\nOutput: b", [("", "a")]),
        ("just talk", []),
        ("Input: x\nOutput:   ", []),
        ("", []),
    ],
)
def test_examples_with_the_input_first_are_read(answer: str, instances: list[tuple[str, str]]) -> None:
    assert parse_instances(answer, label_first=False) == (instances, 0)


@pytest.mark.parametrize(
    ("answer", "instances"),
    [
        ("Class label: yes\nI like it\nClass label: no\nInput: Bah", [("I like it", "yes"), ("Bah", "no")]),
        ("类别标签：好\n我喜欢\n类别标签：坏\n不行", [("我喜欢", "好"), ("不行", "坏")]),
        ("Class label:\nno", [("", "no")]),
        ("talk", []),
    ],
)
def test_examples_with_the_label_first_are_read(answer: str, instances: list[tuple[str, str]]) -> None:
    assert parse_instances(answer, label_first=True) == (instances, 0)


@pytest.mark.parametrize(
    ("answer", "label_first", "parsed"),
    [
        ("Input: 1\nOutput: 2\nExample 2\nInput: 3\nOutput: the answer is fo", False, ([("1", "2")], 1)),
        ("Example 1\nInput: 1\nOutput: 2\nExample 2\nInput: thr", False, ([("1", "2")], 1)),
        ("Output: a whole one\n\nTask: something el", False, ([("", "a whole one")], 0)),
        ("Output: the answer is fo", False, ([], 1)),
        ("Class label: good\nfine work\nClass label: bad\npoor wo", True, ([("fine work", "good")], 1)),
    ],
)
def test_of_an_answer_that_was_cut_off_the_last_example_is_left(
    answer: str, label_first: bool, parsed: tuple[list[tuple[str, str]], int]
) -> None:
    assert parse_instances(CutOff(answer), label_first) == parsed


def test_of_a_list_that_was_cut_off_the_last_instruction_is_left() -> None:
    assert parse_tasks(CutOff("Task 1: Name a city.\nTask 2: Sort these words.")) == (["Name a city."], 1)
    assert parse_tasks(CutOff("Name a ci")) == ([], 1)


@given(st.text(max_size=200), st.booleans())
def test_no_answer_at_all_breaks_the_reading(answer: str, label_first: bool) -> None:
    assert all(output.strip() for _, output in parse_instances(answer, label_first)[0])
    assert all(text.strip() for text in parse_tasks(answer)[0])


@pytest.mark.parametrize(
    ("answer", "is_so"), [(" Yes", True), ("是。", True), ("No, never", False), ("否", False), ("", False)]
)
def test_the_kind_is_read(answer: str, is_so: bool) -> None:
    assert parse_is_classification(answer) is is_so


@pytest.mark.parametrize(
    ("text", "language", "reason"),
    [
        ("Explain why leaves turn red in autumn.", "en", None),
        ("请解释为什么秋天树叶会变红。", "zh", None),
        ("Go on", "en", "too_short"),
        ("继续", "zh", "too_short"),
        ("Explain this: " + "word and other " * 60, "en", "too_long"),
        ("Draw a picture of a red house.", "en", "not_for_text"),
        ("请画图说明水的循环过程。", "zh", "not_for_text"),
        ("- Explain why leaves turn red.", "en", "starts_oddly"),
        ("请解释为什么秋天树叶会变红。", "en", "other_language"),
        ("Explain why leaves turn red.", "zh", "other_language"),
        ("Write a program that adds two numbers.", "en", "write_a_program"),
        ("编写一个程序来计算两个数的和。", "zh", "write_a_program"),
        ("say it again say it again say it again say it again", "en", "repetitive"),
    ],
)
def test_an_instruction_is_refused_with_a_reason(text: str, language: str, reason: str | None) -> None:
    assert refuse_instruction(text, language) == reason


@pytest.mark.parametrize(
    ("instance", "reason"),
    [
        (("1 2", "3"), None),
        (("", "三"), None),
        (("same", "same"), "output_is_input"),
        (("x", "Do it."), "repeats_instruction"),
        (("x", "As follows:"), "cut_off"),
        (("x", " "), "empty_output"),
        (("x", "好的好的好的好的好的好的"), "repetitive"),
    ],
)
def test_an_example_is_refused_with_a_reason(instance: tuple[str, str], reason: str | None) -> None:
    assert refuse_instance("Do it.", instance) == reason


def test_an_input_with_two_outputs_is_dropped() -> None:
    assert drop_conflicting([("a", "1"), ("a", "2"), ("b", "3"), ("b", "3")]) == ([("b", "3")], 3)
    assert drop_conflicting([("", "one poem"), ("", "another")]) == ([("", "one poem"), ("", "another")], 0)


@pytest.mark.parametrize(
    ("text", "original", "reason"),
    [
        ("Tell me 3 colours of “Paris”.", "Name 3 colours of \"Paris\".", None),
        ("说出 3 种颜色，出自《诗经》。", "请从《诗经》里说3种颜色", None),
        ("name 3 COLOURS!", "Name 3 colours.", "unchanged"),
        ("请说三种颜色", "请说 3 种颜色", "drops_a_number_or_quotation"),
        ("Tell me 3 colours of Rome.", "Name 3 colours of \"Paris\".", "drops_a_number_or_quotation"),
        ("At 10:45 it costs 12.50.", "It costs 12.55 at 10:45.", "drops_a_number_or_quotation"),
        ("Name three colours.", "说三种颜色。", "other_language"),
        ("  ", "Name three.", "empty"),
        ("well " * 60, "Name three.", "too_long"),
    ],
)  # fmt: skip
def test_a_paraphrase_keeps_numbers_and_quotations_and_differs_from_the_original(
    text: str, original: str, reason: str | None
) -> None:
    assert refuse_paraphrase(text, original) == reason


@pytest.mark.parametrize(
    ("answer", "original", "text"),
    [
        ('"Tell me."', "Say.", "Tell me."),
        ("Rewritten text: Tell me.", "Say.", "Tell me."),
        ("改写后的文本：“告诉我。”", "说。", "告诉我。"),
        ('"Quoted" stays "so"', '"Quoted" is "it"', '"Quoted" stays "so"'),
        ("Text: a label that was there", "Text: it was there", "Text: a label that was there"),
    ],
)
def test_labels_and_quotes_around_an_answer_are_removed(answer: str, original: str, text: str) -> None:
    assert clean_text(answer, original) == text
