"""Answers are parsed by kind and scored by the parsed value; unparsed answers are counted."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tasks.evaluate.predictions import score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.metrics import answer_kinds
from tasks.scoring.score import score_answer
from tasks.scoring.targets import Frame, parse_answer, tool_calls_of
from tasks.scoring.text_metrics import chrf, rouge_l, rouge_l_of_tokens

ANN = '[{"type":"PER","text":"Ann","start":0,"end":3},{"type":"LOC","text":"巴黎","start":7,"end":9}]'
CALL = '[{"arguments":{"city":"巴黎","days":2},"name":"weather"}]'


@pytest.mark.parametrize(
    ("kind", "answer", "read"),
    [
        ("entities", ANN, {("per", "ann"), ("loc", "巴黎")}),
        ("entities", f"```json\n{ANN}\n```", {("per", "ann"), ("loc", "巴黎")}),
        ("entities", "PER: Ann\n- LOC：巴黎", {("per", "ann"), ("loc", "巴黎")}),
        ("entities", '{"PER": ["Ann"], "LOC": "巴黎"}', {("per", "ann"), ("loc", "巴黎")}),
        ("entities", "[]", set()),
        ("entities", "无。", set()),
        ("entities", "There is Ann in it", None),
        ("entities", '[{"type": "PER"}]', None),
        ("relation", '[{"head":"Ann","relation":"lives in","tail":"巴黎"}]', {("ann", "lives in", "巴黎")}),
        ("relation", '[["Ann", "lives in", "巴黎"]]', {("ann", "lives in", "巴黎")}),
        ("relation", "Ann | lives in | 巴黎", {("ann", "lives in", "巴黎")}),
        ("relation", "(Ann; lives in; 巴黎)", {("ann", "lives in", "巴黎")}),
        ("relation", "Cause-Effect(e2,e1)", {("e2", "cause-effect", "e1")}),
        ("relation", "Other", None),
        ("json", '{"b": 1, "a": [2]}', {"a": [2], "b": 1}),
        ("json", '{"b": 1', None),
        ("code", "Here it is:\n```python\nx = 1\n```\nDone.", "x = 1"),
        ("code", "x = 1", "x = 1"),
        ("tool_calls", CALL, [{"name": "weather", "arguments": {"city": "巴黎", "days": 2}}]),
        ("tool_calls", '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>', [{"name": "f", "arguments": {}}]),
        ("tool_calls", '{"name": "f", "parameters": {"a": 1}}', [{"name": "f", "arguments": {"a": 1}}]),
        (
            "tool_calls",
            '{"function": {"name": "f", "arguments": "{\\"a\\": 1}"}}',
            [{"name": "f", "arguments": {"a": 1}}],
        ),
        ("tool_calls", "I cannot do that", None),
        ("classification", " sport\n", "sport"),
        ("classification", "  ", None),
        ("free", "", ""),
    ],
)
def test_an_answer_is_parsed_in_every_form(kind: str, answer: str, read: Any) -> None:
    assert parse_answer(kind, answer) == read


@pytest.mark.parametrize(
    "answer", ["**positive**", '"positive"', "`Positive`.", "“positive”", "*positive*", "「positive」。"]
)
def test_marks_around_a_label_are_removed(answer: str) -> None:
    assert score_answer("classification", answer, "positive").score == 1
    assert score_answer("classification", f"{answer} or **negative**", "positive").score == 0


@pytest.mark.parametrize("between", ["\n", " ", "\n\n"])
def test_words_before_calls_are_ignored(between: str) -> None:
    target = '[{"arguments":{"a":1},"name":"f"}]'
    assert score_answer(
        "tool_calls", f'Let me {{look}} at it.{between}[{{"name": "f", "arguments": {{"a": 1.0}}}}]', target
    ).exact
    assert score_answer("tool_calls", f'我来看看。{between}{{"name": "f", "parameters": {{"a": 1}}}}', target).exact
    assert score_answer("tool_calls", f'I see.{between}{{"name": "g", "parameters": {{"a": 1}}}}', target).score == 0
    assert score_answer("tool_calls", f"I see.{between}{target} That is it.", target).is_unparsed


def test_the_label_is_the_text_at_the_position_of_the_output() -> None:
    frame = Frame("The sentiment is ", ".")
    assert parse_answer("classification", "the sentiment is positive.", frame) == "positive"
    assert parse_answer("classification", "positive", frame) == "positive"
    assert score_answer("classification", "The sentiment is Positive.", "positive", frame).score == 1.0


def test_a_bare_answer_keeps_its_own_last_dot() -> None:
    frame = Frame("The answer is ", ".")
    assert frame.remove_from("U.S.") == "U.S."
    assert frame.remove_from("The answer is U.S..") == "U.S."
    assert Frame("", ".").remove_from("Paris.") == "Paris"


@pytest.mark.parametrize(
    ("kind", "answer"),
    [
        ("relation", "a | b{0}| c{0} x | z"),
        ("relation", "a({0}b{0},{0}c{0}|{0}d"),
        ("entities", "a{0}b{0}:{0}"),
        ("tool_calls", "<tool_call>{0}x{0}y"),
    ],
)
def test_ten_thousand_spaces_are_parsed_as_fast_as_one(kind: str, answer: str) -> None:
    start = time.process_time()
    assert parse_answer(kind, answer.format(" " * 10_000)) is None
    assert time.process_time() - start < 2


@pytest.mark.parametrize("kind", answer_kinds())
def test_the_same_answer_scores_one_and_an_empty_one_scores_zero(kind: str) -> None:
    target = {"entities": ANN, "relation": "a | b | c", "json": '{"a": 1}', "tool_calls": CALL}.get(
        kind, "北京 is the capital"
    )
    same, nothing = score_answer(kind, target, target), score_answer(kind, "", target)
    assert (same.score, same.exact, same.is_unparsed) == (1.0, True, False)
    assert (nothing.score, nothing.exact) == (0.0, False)
    assert nothing.is_unparsed == (kind not in ("qa", "free", "translation", "summary"))


def test_half_right_entities_score_half_and_calls_are_right_or_wrong() -> None:
    scored = score_answer("entities", "PER: Ann\nLOC: Rome", ANN)
    assert (scored.score, scored.counts) == (0.5, (1, 2, 2))
    assert (
        score_answer("tool_calls", '{"name": "weather", "arguments": {"days": 2, "city": "巴黎"}}', CALL).score == 1.0
    )
    assert (
        score_answer("tool_calls", '{"name": "weather", "arguments": {"days": 3, "city": "巴黎"}}', CALL).score == 0.0
    )


def test_a_target_that_cannot_be_parsed_is_compared_as_text() -> None:
    assert score_answer("relation", "Other", "Other").score == 1.0
    assert score_answer("relation", "Cause-Effect(e1,e2)", "Other").score == 0.0


def test_chrf_equals_the_value_computed_by_hand() -> None:
    assert chrf("ab", "ab") == 1.0
    # orders 1 and 2: precision 3/4 and 1/3, recall 3/3 and 1/2, in the mean 13/24 and 3/4; F2 = 5pr / (4p + r)
    assert chrf("a bxc", "abc") == pytest.approx(mean_f2([3 / 4, 1 / 3, 0], [1, 1 / 2, 0]))
    assert chrf("东京", "北京") == pytest.approx(mean_f2([1 / 2, 0], [1 / 2, 0]))
    assert chrf("xyz", "abc") == chrf("", "abc") == 0.0


def mean_f2(precisions: list[float], recalls: list[float]) -> float:
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 5 * p * r / (4 * p + r)


def test_rouge_l_counts_the_longest_common_subsequence_of_words_and_characters() -> None:
    assert rouge_l_of_tokens("abcbdab", "bdcaba") == 2 * 4 / 13
    assert rouge_l_of_tokens("", "abc") == 0
    assert rouge_l("the cat was here", "the cat is here") == pytest.approx(2 * 3 / 8)
    assert rouge_l("北京是首都", "首都是北京") == pytest.approx(2 * 2 / 10)


def test_the_report_counts_unparsed_answers_and_has_kinds() -> None:
    def row(number: int, kind: str, target: str) -> dict[str, Any]:
        shown = {"batch": "b", "prompt": "p", "language": "en", "family": "mixed"}
        return {"row_id": f"r{number}", "kind": kind, "target": target, **shown}

    test = [row(1, "tool_calls", CALL), row(2, "tool_calls", CALL), row(3, "free", "It is sunny.")]
    rows = score_rows(test, [CALL, "no idea", "It is sunny."])
    assert [r["is_unparsed"] for r in rows] == [False, True, False]
    family = describe_model(rows, EvaluateSettings(bootstrap_samples=100))["families"]["mixed"]
    assert (family["kind"], family["measure"], family["unparsed"]) == ("tool_calls", "equal calls", 1)
    assert family["kinds"]["free"]["score"] == 1.0
    entities = describe_model(
        score_rows([row(1, "entities", ANN), row(2, "entities", "[]")], ["PER: Ann", "[]"]), EvaluateSettings()
    )["families"]["mixed"]
    assert entities["micro_f1"] == pytest.approx(2 / 3, abs=1e-6)


def test_half_a_surrogate_pair_in_json_is_parsed_as_a_question_mark() -> None:
    assert score_answer("json", '{"a": "\\ud800"}', '{"a": 1}').parsed == '{"a":"?"}'


def test_only_what_ingestion_writes_is_a_call() -> None:
    assert tool_calls_of(CALL) == [{"arguments": {"city": "巴黎", "days": 2}, "name": "weather"}]
    assert tool_calls_of('{"name": "f"}') is None
    assert tool_calls_of('[{"arguments":{},"name":"f","id":1}]') is None
