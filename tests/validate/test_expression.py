"""A contract's expressions: what they mean, in English and Chinese, and which mistakes are told when they are read."""

from __future__ import annotations

import contextlib

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.validate.measures.expression import parse_expression

ROWS = {
    "instruction": ["Say it", "说", ""],
    "input": ["", "你好，世界", "x"],
    "output": ["it is SAID here", "好", "see http://a"],
    "language": ["en", "zh", "en"],
    "source": ["news", "news", "qa"],
}


def holds(text: str) -> list[bool]:
    table = pa.table({name: pa.array(values, pa.string()) for name, values in ROWS.items()})
    found: list[bool] = parse_expression(text).holds(table).tolist()
    return found


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
def test_an_expression_means_what_it_says(text: str, expected: list[bool]) -> None:
    assert holds(text) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "not an expression"),
        ("length(output) <=", "not an expression"),
        ("length(output)", "should be true or false"),
        ("lenght(output) < 3", "`lenght` is no function; there are length, segments, lower, contains, matches"),
        ("answer == 'a'", "`answer` is no column; there are system, history"),
        ("output < 3", "`output` is a text, `3` a number: they cannot be compared"),
        ("length(output) + output == 3", "`output` is a text, but should be a number"),
        ("length(output) and True", "`length(output)` is a number, but should be a truth"),
        ("contains(output, input)", "`contains` wants a text in quotes"),
        ("matches(output, '(')", "not a regular expression"),
        ("length(output, input) < 3", "`length` takes 1 argument"),
        ("length(3) < 3", "`3` is a number, but should be a text"),
        ("language in []", "`in` wants a list"),
        ("language in source", "`in` wants a list, such as in ['a', 'b'], not `source`"),
        ("language in [1]", "`1` is a number, but should be a text"),
        ("language in [source]", "may hold only texts or numbers"),
        ("1 < 2", "it looks at no column"),
        ("length(output) < 1e400", "a number should be below 1e+15"),
        ("output is None", "is not of this language"),
        ("output.upper() == 'A'", "is no function"),
        ("__import__('os').system('true') == output", "is no function"),
        ("(lambda: output == 'a')()", "is no function"),
        ("[output for output in 'ab'] == output", "is not of this language"),
        ("f'{output}' == 'a'", "is not of this language"),
        ("output[0] == 'a'", "is not of this language"),
        ("length(output) ** 9 > 3", "is not of this language"),
        (" and ".join(["output == 'a'"] * 90), "more than 200 parts"),
        ("(" * 500 + "output" + ")" * 500, "not an expression"),
    ],
)
def test_a_mistake_is_told_when_the_expression_is_read(text: str, told: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        parse_expression(text)
    assert told in str(caught.value)


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from("ab()[]'\"<>=+-*/., 13\n\\#@:outplenghcis好"), max_size=40))
def test_any_text_at_all_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        parse_expression(text)
