"""Case 15: scores keep signs, points, symbols and names apart, and an answer that loops scores nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasks.evaluate.predictions import score_rows
from tasks.evaluate.report import describe_model
from tasks.evaluate.settings import EvaluateSettings
from tasks.scoring.answer_loops import ends_in_loop
from tasks.scoring.answer_text import fold, normalise_answer
from tasks.scoring.answer_tokens import answer_tokens
from tasks.scoring.metrics import answer_kinds, token_f1
from tasks.scoring.score import score_answer

UNLIKE = [
    ("-5", "5"), ("3.14", "14.3"), ("C#", "C++"), ("C", "C#"), ("A+", "A-"), ("100.0", "1000"), (".5", "5"), ("2⁵", "25"),
    ("10⁻³", "10³"), ("1½", "11/2"), ("1.2.3", "1.3.2"), ("v1.2", "v1.3"), ("a_b", "a b"), ("50%", "50"), ("3/4", "4/3"),
    ("10:30", "30:10"), ("2024-01-02", "2024-02-01"), ("1e5", "1e6"), ("0x1F", "0x2F"), ("log₂8", "log28"), ("5!", "5"),
    ("👍", "👎"), ("i++", "i--"), ("__init__", "init"), ("－５", "5"), ("５０％", "50"), ("C＃", "C"), ("-½", "½"),
]  # fmt: skip
"""Answers that share nothing with their target."""

UNEQUAL = [
    ("x < 3", "x > 3"), ("3 < x", "x < 3"), ("x <= 3", "x < 3"), ("x-3", "x+3"), ("2*3", "2+3"), ("2*(3+4)", "2*3+4"),
    ("5 km", "5 m"), ("5 km/h", "5 h/km"), ("$5", "5"), ("$5", "€5"), ("-$5", "$5"), ("5°C", "5°F"),
    ("±5", "5"), ("~5", "5"), ("≥18", "≤18"),
    ("m²", "m³"), ("x = -1", "x = 1"), ("x != y", "x = y"), ("node.js", "node js"),
    ("user@host", "user host"), ("AT&T", "AT T"),
    ("rm -rf", "rm rf"), ("--force", "force"), ("$HOME", "HOME"), (".NET", "NET"), ("#1", "1"), ("> 5", "5"), ("-x", "x"),
    ("温度为-5度", "温度为5度"), ("五十", "十五"),
    ("1月2日", "2月1日"), ("2024年1月2日", "2024年2月1日"), ("比分是2比1", "比分是1比2"), ("5 to 10", "10 to 5"),
    ("5至10", "10至5"),
    ("1～2", "2～1"), ("(3, -5)", "(-5, 3)"), ("6÷2", "2÷6"), ("y = 2x + 3", "y = 3x + 2"), ("a → b", "b → a"), ("A→B", "B→A"),
    ("[1, 2)", "(1, 2]"), ("三胜二负", "二胜三负"),
    ("-√2", "√2"), ("-∞", "∞"), ("-(3+4)", "3+4"), ("x = -y", "x = y"), ("f'(x) = 2x", "f(x) = 2x"), ("概率为.5", "概率为5"),
    ("评级A-级", "评级A级"), ("使用C++编写", "使用C#编写"), ("约1e-5米", "约1e5米"), ("变量i--", "变量i++"),
    ("二〇一二年", "二〇二一年"), ("5万", "5亿"), ("x＜3", "x＞3"), ("增长5％", "增长5"),
]  # fmt: skip
"""Answers that share some of their tokens with the target."""

ALIKE = [
    ("−5", "-5"), ("－５", "-5"), ("５０％", "50 %"), ("x＜3", "x < 3"), ("x<=3", "x ≤ 3"), ("(3.14)", "3.14."), (".5", "0.5"),
    ("1,000", "1000"), ("2⁵", "2^5"), ("10**3", "10^3"), ("㎡", "m²"), ("½", "1/2"), ("5km", "5 km"),
    ("5℃", "5 °C"), ("H₂O", "H2O"),
    ("Ｃ＋＋", "c++"), ("x - 3", "x-3"), ("1,2,3", "1, 2, 3"), ("well-known", "well known"),
    ("COVID-19", "COVID 19"), ("don’t", "don't"),
    ("**Paris**", "Paris"), ("这是**北京**", "这是北京"), ("- a\n- b", "a, b"), ("# Title", "title"), ("`x`", "x"),
    ("$x = 5$", "x = 5"),
    ("使用C++编写", "使用 C++ 编写"), ("用C#写", "用 C# 写"), ("约1e-5米", "约 1e-5 米"), ("地址0xFF处", "地址 0xFF 处"),
    ("解为$x=5$。", "解为 x=5"),
    ("\\(x=5\\)", "x = 5"), ("\\[x=5\\]", "x = 5"), ("$$x=5$$", "x = 5"), ("答案是\\boxed{42}", "答案是42"), ("10^{-3}", "10⁻³"),
    ("x_{1}", "x_1"), ("-\\frac{1}{2}", "-1/2"), ("x \\le 3", "x ≤ 3"), ("50\\%", "50%"), ("5 \\times 3", "5 × 3"),
    ("I am 5!", "I am 5"), ("是５！", "是5"), ("1990–1995", "1990-1995"),
    ("Paris — the capital", "Paris, the capital"), ("- 5", "-5"),
    ("| a | b |\n|---|---|\n| 1 | 2 |", "a | b |\n1 | 2 |"),
]  # fmt: skip
"""The same, otherwise typed."""

TEXT = st.text(
    st.characters(exclude_categories=["Cs"]) | st.sampled_from("-+.,5%#<>=/*_$()! 五十中ab²½\n"), max_size=40
)


@pytest.mark.parametrize(("answer", "target"), UNLIKE)
@pytest.mark.parametrize("kind", ["qa", "free", "summary"])
def test_another_number_or_name_is_another_answer(kind: str, answer: str, target: str) -> None:
    """Case 15: each of these scored 1 or more than a half."""
    for one, other in ((answer, target), (target, answer)):
        scored = score_answer(kind, one, other)
        assert (scored.score, scored.exact) == (0.0, False)


@pytest.mark.parametrize(("answer", "target"), UNEQUAL)
@pytest.mark.parametrize("kind", ["qa", "free", "summary"])
def test_a_symbol_or_an_order_that_changes_the_meaning_costs(kind: str, answer: str, target: str) -> None:
    """Case 15: all of these scored 1."""
    for one, other in ((answer, target), (target, answer)):
        scored = score_answer(kind, one, other)
        assert 0 < scored.score < 0.95
        assert not scored.exact


@pytest.mark.parametrize(("answer", "target"), ALIKE)
def test_answers_that_differ_only_in_typing_are_equal(answer: str, target: str) -> None:
    assert answer_tokens(answer) == answer_tokens(target)
    assert score_answer("qa", answer, target).score == 1.0


@pytest.mark.parametrize("kind", answer_kinds())
def test_every_kind_keeps_what_changes_the_meaning(kind: str) -> None:
    for answer, target in UNLIKE:
        if kind == "entities":
            answer, target = f"X: {answer}", f"X: {target}"
        elif kind == "relation":
            answer, target = f"a | b | {answer}", f"a | b | {target}"
        elif kind in ("json", "tool_calls"):
            name = '{"name": "f", "arguments": {"a": "%s"}}'
            answer, target = name % answer, name % target
        scored = score_answer(kind, answer, target)
        assert scored.score < 1
        assert not scored.exact


@given(TEXT, TEXT)
def test_token_f1_is_symmetric_and_between_0_and_1(one: str, other: str) -> None:
    score = token_f1(one, other)
    assert 0 <= score <= 1
    assert score == token_f1(other, one)


@given(TEXT, TEXT, st.sampled_from(["qa", "free", "summary", "translation", "code", "classification"]))
def test_every_score_is_between_0_and_1_and_an_exact_answer_scores_1(one: str, other: str, kind: str) -> None:
    scored = score_answer(kind, one, other)
    assert 0 <= scored.score <= 1
    assert scored.score == 1 or not scored.exact
    assert score_answer(kind, one, one).score == 1


@given(TEXT)
@example("0\x1f.")
@example("好\u2029。 ")
def test_normalisation_is_idempotent(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert normalise_answer(normalise_answer(text)) == normalise_answer(text)


@given(st.integers(0, 10**9), st.sampled_from(["{}", "-{}", "{}%", "0.{}", "{}.5", "{}/7", "{}:30", "1e{}"]))
def test_a_number_is_one_token_in_both_widths(number: int, form: str) -> None:
    text = form.format(number)
    assert len(answer_tokens(text)) == 1
    assert answer_tokens("".join(chr(ord(sign) + 0xFEE0) for sign in text)) == answer_tokens(text)


@pytest.mark.parametrize(
    "part",
    [
        "-",
        "_",
        "1,",
        "1,111",
        "1.",
        "*a",
        "* ",
        "- ",
        "| ",
        "$a",
        " -",
        "₂",
        "x<",
        "(",
        "5!",
        "!",
        "²",
        "½",
        "---| ",
        "**",
        "``` ",
        "a+",
        "$$",
        "\\(",
        "\\[a",
        "\\boxed{",
        "\\frac{1}{",
        "^{",
        "f'",
    ],
)
def test_the_parsing_time_is_linear_in_the_length_of_an_answer(part: str) -> None:
    start = time.process_time()
    answer_tokens(part * 20_000)
    normalise_answer(part * 20_000)
    ends_in_loop(part * 20_000, part * 10_000)
    assert time.process_time() - start < 3


EQUAL_JSON = [
    ('{"a": 1.0}', '{"a": 1}'),
    ('{"a": 1e0}', '{"a": 1}'),
    ("[1e2, 0.10]", "[100, 0.1]"),
    ('[{"a": -0.0}]', '[{"a": 0}]'),
    ("[1e400]", "[10e399]"),
]
EQUAL_SCALARS = [("1.0", "1"), ("-0.0", "0"), ('"\\u540d"', '"名"'), ("```json\n1e2\n```", "100"), ("true", "true")]
OTHER_SCALARS = [("1", "true"), ('"1"', "1"), ("-5", "5"), ("NaN", "1"), ("one", "1")]
OTHER_JSON = [
    ('{"a": true}', '{"a": 1}'), ('{"a": "1"}', '{"a": 1}'), ('{"a": null}', '{"a": 0}'),
    ("[1, 2]", "[2, 1]"), ("[1e400]", "[1e401]"), ("[false]", "[0]"), ("[[]]", "[{}]"),
    ("[0.1]", "[0.10000000000000001]"), ('{"a": 1}', '{"a": 1, "b": null}'), ("[NaN]", "[NaN, 1]"),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "target"), EQUAL_JSON)
def test_equal_json_numbers_are_equal_in_json_and_in_arguments(answer: str, target: str) -> None:
    """Case 15: `1.0` for `1` scored 0."""
    assert score_answer("json", answer, target).exact
    call = '{{"name": "f", "arguments": {}}}'
    assert score_answer("tool_calls", call.format(answer), call.format(target)).score == 1.0


@pytest.mark.parametrize(("answer", "target"), OTHER_JSON)
def test_other_json_is_not_equal(answer: str, target: str) -> None:
    assert score_answer("json", answer, target).score == 0.0
    call = '{{"name": "f", "arguments": {}}}'
    assert score_answer("tool_calls", call.format(answer), call.format(target)).score == 0.0


@pytest.mark.parametrize(("answer", "target"), EQUAL_SCALARS)
def test_a_json_value_alone_is_compared_as_json(answer: str, target: str) -> None:
    """Case 15: a target that is a number, and no object, was compared as text."""
    assert score_answer("json", answer, target).exact


@pytest.mark.parametrize(("answer", "target"), OTHER_SCALARS)
def test_another_json_value_is_not_equal(answer: str, target: str) -> None:
    assert score_answer("json", answer, target).score == 0.0


def test_indentation_counts_in_code() -> None:
    assert score_answer("code", "if a:\n    b\nc", "if a:\n    b\n    c").score < 1


LOOPS = [
    "我是一个系统，我有一个系统，我有一个系统，我",
    "我是一个美好的美丽的美丽的美丽的美\ufffd",
    "你醉！你醉！你醉！你醉！你\ufffd",
    "你能呼吸这个问题－－－－－－－－－－－－",
    "The answer is: The answer is: The answer is: The answer is: The ans",
    "A good answer of many words. " + "It is what it is, and that is that. " * 3,
    "function f() {\n  return function() {\n    return function() {\n      return function() {\n        return function() {\n",
    "Some text that is longer than what follows it, by far, " * 2 + "so it goes on, and on. " * 20,
    "".join(f"{number}. It is the answer of words.\n" for number in range(1, 8)) + "8. It is",
    "".join(f"第{sign}步：打开系统的电源。" for sign in "一二三四五六"),
    "".join(f"第{sign}，打开系统的电源。" for sign in ["八", "九", "十", "十一", "十二", "十三", "十四"]),
    "The answer is some words, a" + "h" * 60,
    "我是系统 " + "ha" * 40,
    "The answer is some 1326134." + "0" * 80,
]


@pytest.mark.parametrize("answer", LOOPS)
@pytest.mark.parametrize("kind", ["qa", "free", "summary", "translation", "code"])
def test_an_answer_that_loops_to_its_end_scores_nothing(kind: str, answer: str) -> None:
    """Case 15's sibling: loops share a token or two with most targets."""
    scored = score_answer(kind, answer, "我是系统, it is the answer of some words; function")
    assert (scored.score, scored.degenerate) == (0.0, "loop")


NO_LOOPS = [
    ("no no no", "no"),
    ("yes, yes, yes, yes, yes", "yes, no"),
    ("哈哈哈哈哈哈", "哈"),
    ("不知道……", "知道"),
    ("It depends......", "it"),
    (
        "Row, row, row your boat, gently down the stream. Merrily, merrily, merrily, merrily, life is but a dream.",
        "row",
    ),
    ("A verse of many words comes first, in which the poet says a lot. Let it be, let it be, let it be.", "let"),
    ("我有一个系统，我有一个系统，我有一个系统，我", "我有一个系统。我有一个系统。"),
    ("positive, " * 9, "positive, positive, negative"),
    ("0, 0, 0, 0, 0, 0, 0, 0", "0, 0, 0, 1, 0, 0, 1, 1"),
    ("1. yes\n2. yes\n3. yes\n4. yes\n5. yes\n6. yes\n7. yes\n8. yes\n9. yes", "yes"),
    ("！！！！！！！！！！！！", "好！！！"),
    ("[[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]", "[[2, 0], [0, 2]]"),
    ("Dear Ann,\n\nHello.\n\n--------------------", "Dear Ann"),
    ("Q1: True\nQ2: True\nQ3: True\nQ4: True\nQ5: True\nQ6: True\nQ7: True\nQ8: True", "Q1: True\nQ2: False"),
    ("".join(f"In {2018 + n} the price of a ticket was {5 + 2 * n} dollars. " for n in range(5)), "the price"),
    ("1/3 is 0.3333333333333333", "0.33"),
    ("1. Eat an apple.\n2. Eat an orange.\n3. Eat a pear.\n4. Eat a plum.\n5. Eat a fig.", "eat"),
    ("一一得一，一二得二，一三得三，一四得四，一五得五", "一一得一"),
    ("".join(f"{n}. Turn it on and off.\n" for n in range(1, 7)), "1. Turn it on and off.\n2. Turn it on and off."),
    ("- [ ] milk\n- [ ] bread\n- [ ] eggs\n----------", "milk ----------"),
]


@pytest.mark.parametrize(("answer", "target"), NO_LOOPS)
def test_natural_repetition_is_not_a_loop(answer: str, target: str) -> None:
    assert not ends_in_loop(answer, target)


@given(TEXT, st.integers(2, 30))
def test_an_answer_that_repeats_as_its_target_does_is_exact(phrase: str, times: int) -> None:
    assert score_answer("qa", phrase * times, phrase * times).score == 1.0
    assert not ends_in_loop(f"{phrase} " * (times + 30), f"{phrase} " * times * 3) or not answer_tokens(phrase)


def test_loops_are_counted_in_the_report() -> None:
    fixed = {"batch": "b", "family": "qa", "kind": "qa", "language": "zh", "prompt": "p", "target": "系统"}
    rows = score_rows([{"row_id": str(i), **fixed} for i in range(2)], [LOOPS[0], "系统"])
    assert [row["degenerate"] for row in rows] == ["loop", None]
    assert describe_model(rows, EvaluateSettings(bootstrap_samples=100))["families"]["qa"]["degenerate"]["loop"] == 1
