"""Measures over arrow equal those of plain Python, on every path, in English and Chinese."""

from __future__ import annotations

import sys
import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.expression.measure import (
    MAX_NFKC_EXPANSION,
    characters_of,
    has_at_least,
    has_at_most,
    has_text,
    is_first,
    segments_of,
)
from tasks.records.segmentation import segment
from tasks.validate.contract.contract import Script
from tasks.validate.measures.script import is_surely_in, letters_in

TEXTS = st.text(
    st.one_of(
        st.sampled_from("aZ09 '’_-.\n\t\x1c\u3000今天天气，。éß㍿ﷺ½ﬁが한"),
        st.characters(exclude_categories=["Cs"]),
    ),
    max_size=40,
)


def slow_segments(text: str) -> int:
    return len(segment(text)) or int(bool(text.strip()))


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=8), st.integers(0, 12))
def test_lengths_and_their_bounds_are_those_of_the_segmentation(texts: list[str], bound: int) -> None:
    column = pa.array(texts, pa.string())
    counts = [slow_segments(text) for text in texts]
    assert segments_of(column).tolist() == counts
    assert has_at_most(column, bound).tolist() == [count <= bound for count in counts]
    assert has_at_least(column, bound).tolist() == [count >= bound for count in counts]
    assert has_text(column).tolist() == [bool(text.strip()) for text in texts]
    assert characters_of(column).tolist() == [len(text) for text in texts]


@pytest.mark.parametrize(
    "text", ["word " * 50, "字" * 50, "字 word " * 25, "ﷺ" * 20, "…" * 60, "a,b;" * 30, "don't " * 30]
)
def test_bounds_are_exact_at_the_edge_of_long_texts(text: str) -> None:
    count = slow_segments(text)
    column = pa.array([text])
    assert [has_at_most(column, count + by)[0] for by in (-1, 0)] == [False, True]
    assert [has_at_least(column, count + by)[0] for by in (0, 1)] == [True, False]


def test_no_character_becomes_more_characters_by_nfkc_than_the_bound_on_segments_expects() -> None:
    every = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    assert max(len(unicodedata.normalize("NFKC", character)) for character in every) <= MAX_NFKC_EXPANSION


@given(st.lists(st.one_of(st.none(), st.sampled_from(["a", "b", "甲", ""])), max_size=12))
def test_a_value_is_first_once(values: list[str | None]) -> None:
    seen: set[str] = set()
    expected = []
    for value in values:
        expected.append(value is None or value not in seen)
        if value is not None:
            seen.add(value)
    assert is_first(pa.array(values, pa.string())).tolist() == expected


@settings(deadline=None)
@given(TEXTS, st.sampled_from([Script(script="Latin", min_share=0.5), Script(script="Han", min_share=0.02)]))
def test_what_is_plainly_in_a_script_is_in_it_when_letters_are_counted(text: str, script: Script) -> None:
    if is_surely_in(pa.array([text]), script.script, script.min_share)[0]:
        letters, inside = letters_in(text, script.script)
        assert inside >= script.min_share * letters > 0
