"""Expressions of a contract: their meaning, in English and Chinese, and the errors that are reported when they are parsed."""

from __future__ import annotations

import contextlib
import re

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.expression.expression import Language, parse_expression

ROWS = {
    "instruction": ["Say it", "说", ""],
    "input": ["", "你好，世界", "x"],
    "output": ["it is SAID here", "好", "see http://a"],
    "language": ["en", "zh", "en"],
    "source": ["news", "news", "qa"],
}


def holds(text: str) -> list[bool]:
    table = pa.table({name: pa.array(values, pa.string()) for name, values in ROWS.items()})
    result: list[bool] = parse_expression(text).holds(table).tolist()
    return result


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("length(output) <= 3 * length(input)", [False, True, False]),
        ("segments(input) == 4", [False, True, False]),
        ("segments(output) == 4 or length(output) == 1", [True, True, False]),
        ("language in ['zh', 'de']", [False, True, False]),
        ("language not in ('zh',)", [True, False, True]),
        ("contains(lower(output), 'said')", [True, False, False]),
        ("not contains(output, 'said')", [True, True, True]),
        (r"matches(output, 'https?://\w')", [False, False, True]),
        (r"matches(input, '^\\w+，世界$')", [False, True, False]),
        ("lower(source) == 'news' and output != '好'", [True, False, False]),
        ("0 < length(output) - length(instruction) < 10", [True, False, False]),
        ("length(output) / length(input) <= 1", [False, True, False]),
        # 15 / 0 is no number, and comparing it is false; its contrary is true
        ("not length(output) / length(input) > 1", [True, True, False]),
        ("length(output) / length(input) != 1", [False, True, True]),
        ("-length(instruction) + 1 >= 0", [False, True, True]),
        ("length(output)\n  > 5", [True, False, True]),
        ("length(instruction) in [1, 6]", [True, True, False]),
        ("output < instruction", [False, True, False]),
        ("True and input == ''", [True, False, False]),
    ],
)
def test_an_expression_is_evaluated_as_written(text: str, expected: list[bool]) -> None:
    assert holds(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "not an expression"),
        ("length(output) <=", "not an expression"),
        ("length(output)", "should be true or false"),
        ("lenght(output) < 3", "`lenght` is not a function; there are length, segments, lower, contains, matches"),
        ("answer == 'a'", "`answer` is not a column; there are system, history"),
        ("output < 3", "`output` is a text, `3` a number: they cannot be compared"),
        ("length(output) + output == 3", "`output` is a text, but should be a number"),
        ("length(output) and True", "`length(output)` is a number, but should be a truth"),
        ("contains(output, input)", "`contains` needs a text in quotes"),
        ("matches(output, '(')", "not a regular expression"),
        ("length(output, input) < 3", "`length` takes 1 argument"),
        ("length(3) < 3", "`3` is a number, but should be a text"),
        ("language in []", "`in` needs a list"),
        ("language in source", "`in` needs a list, such as in ['a', 'b'], not `source`"),
        ("language in [1]", "`1` is a number, but should be a text"),
        ("language in [source]", "may hold only texts or numbers"),
        ("1 < 2", "it names no column"),
        ("length(output) < 1e400", "a number should be below 1e+15"),
        ("output is None", "is not part of this language"),
        ("output.upper() == 'A'", "is not a function"),
        ("__import__('os').system('true') == output", "is not a function"),
        ("(lambda: output == 'a')()", "is not a function"),
        ("[output for output in 'ab'] == output", "is not part of this language"),
        ("f'{output}' == 'a'", "is not part of this language"),
        ("output[0] == 'a'", "is not part of this language"),
        ("length(output) ** 9 > 3", "is not part of this language"),
        (" and ".join(["output == 'a'"] * 90), "more than 200 parts"),
        ("(" * 500 + "output" + ")" * 500, "not an expression"),
    ],
)
def test_an_error_is_reported_when_the_expression_is_parsed(text: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_expression(text)
    assert message in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab()[]'\"<>=+-*/., 13\n\\#@:outplenghcis好"), max_size=40))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_expression(text)


SCORES = Language({"answer": "text", "score": "number", "is_unparsed": "truth"}, "the page")
SCORED = pa.table(
    {
        "answer": pa.array(["好", None, "yes", "no"]),
        "score": pa.array([1, 0, None, 0.5], pa.float64()),
        "is_unparsed": pa.array([True, False, None, False]),
    }
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("score < 1", [False, True, False, True]),
        ("not score >= 1", [False, True, True, True]),  # no score is not a number, and comparing it is false
        ("is_unparsed", [True, False, False, False]),
        ("is_unparsed == (score == 1)", [True, True, True, True]),
        ("answer == '' or contains(answer, '好')", [True, True, False, False]),
        ("score * 2 in [1, 2]", [True, False, False, True]),
    ],
)
def test_a_table_with_numbers_and_truths_has_a_language_of_its_own(text: str, expected: list[bool]) -> None:
    assert parse_expression(text, SCORES).holds(SCORED).tolist() == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("output == ''", "`output` is not a column; there are answer, score, is_unparsed"),
        ("score == 'high'", "they cannot be compared"),
        ("score", "it should be true or false"),
        ("answer.upper() == 'X'", "is not a function"),
        ("[score for score in (1,)]", "see the page"),
    ],
)
def test_an_error_names_what_the_language_of_the_table_has(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_expression(text, SCORES)


@pytest.mark.parametrize("pattern", [r"'\bcat\b'", r"'(.)\1'"])
def test_a_pattern_with_a_control_character_in_place_of_its_escape_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="put r before the quotes"):
        parse_expression(f"matches(output, {pattern})")
    table = pa.table({"output": ["a cat is a cat", "aa bb", "猫"]})
    assert parse_expression(f"matches(output, r{pattern})").holds(table).any()
