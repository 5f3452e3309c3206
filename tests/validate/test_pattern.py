"""A pattern has Python's meaning, whichever engine matches it; one that takes too long ends the run, and refuses no row."""

from __future__ import annotations

import pyarrow as pa
import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.errors import ConfigError
from tasks.expression.pattern import Pattern
from tasks.runtime import bounded_regex

PATTERNS = {
    "https?://": "re2", "^第[一二三]": "re2", "[^，]。": "re2", r"\.\.|b{2,}": "re2", "": "re2", "^$": "re2_for_ascii",
    r"\w+\s\w": "re2_for_ascii", r"^\d+$": "re2_for_ascii", r"a\b": "re2_for_ascii", r"(?i)STRASSE|é": "re2_for_ascii",
    r"\p{Han}{3}": "re2_for_ascii", r"b$": "re2_for_ascii", r"(?<=好)a": "regex", r"(a)\1": "regex", "b{,2}c": "regex",
    r"[[:alpha:]]": "regex", r"[\w--a]": "regex", r"\N": "regex", r"\R": "regex", r"\x{41}|(?s).": None,
}  # fmt: skip
CHOSEN = [text for text, engine in PATTERNS.items() if engine]


@pytest.mark.parametrize("text", CHOSEN)
def test_the_fast_engine_reads_what_it_reads_the_same(text: str) -> None:
    assert Pattern.compile(text).engine == PATTERNS[text]


@settings(deadline=None, max_examples=400)
@given(
    st.sampled_from(CHOSEN),
    st.lists(st.text(st.sampled_from("ab cABs:/.httpé1２\n\x0b\x1c_，。第一好世界ßſK"), max_size=12), max_size=5),
)
def test_both_engines_find_the_same(text: str, texts: list[str]) -> None:
    expected = [regex.search(text, each) is not None for each in texts]
    assert Pattern.compile(text).matches(pa.array(texts, pa.string())).tolist() == expected


def test_a_pattern_that_takes_too_long_names_itself_and_refuses_no_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded_regex, "TIMEOUT_SECONDS", 0.05)
    slow = Pattern.compile(r"(?<!q)^(?:\w|\w\w)+(?<!x)$")
    with pytest.raises(ConfigError, match=r"takes more than 0\.05 s on a text of 4,000 characters\. Write the"):
        slow.matches(pa.array(["字" * 3999 + "x"]))


def test_an_invalid_pattern_is_reported() -> None:
    with pytest.raises(ValueError, match=r"not a regular expression: missing \)"):
        Pattern.compile("(")


@pytest.mark.parametrize("text", ["(?R)", "(?0)", "(a)(?1)", "(?P<n>a)(?&n)", "(?P<n>a)(?P>n)", "a(b)(?-1)"])
def test_a_pattern_that_calls_itself_or_a_group_is_refused_before_it_fills_the_memory(text: str) -> None:
    with pytest.raises(ValueError, match="recursion and group calls are not supported"):
        bounded_regex.compile_pattern(text)
    assert bounded_regex.has_match(bounded_regex.compile_pattern(regex.escape(text)), text)
