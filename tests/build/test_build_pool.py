"""The pool finds texts that are similar by ROUGE-L, in any language, in milliseconds."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.build.similarity_pool import Pool
from tasks.records.segmentation import segment
from tasks.scoring.text_metrics import rouge_l_of_tokens


def slow_rouge_l(one: str, other: str) -> float:
    """By dynamic programming, from the definition."""
    left, right = segment(one), segment(other)
    if not left or not right:
        return 0.0
    row = [0] * (len(right) + 1)
    for token in left:
        before = row[:]
        for place, each in enumerate(right, start=1):
            row[place] = before[place - 1] + 1 if token == each else max(before[place], row[place - 1])
    return 2 * row[-1] / (len(left) + len(right))


WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "mat", "猫", "坐", "在", "垫", "子"]), max_size=14).map(
    " ".join
)


@given(WORDS, WORDS)
def test_rouge_l_is_that_of_the_definition(one: str, other: str) -> None:
    assert rouge_l_of_tokens(segment(one), segment(other)) == pytest.approx(slow_rouge_l(one, other))


@given(st.lists(WORDS, max_size=12), WORDS, st.sampled_from([0.3, 0.5, 0.7, 1.0]))
def test_similar_texts_are_found_and_no_others(texts: list[str], new: str, threshold: float) -> None:
    pool = Pool(threshold)
    for text in texts:
        pool.add(text)
    assert pool.has_similar(new) == any(slow_rouge_l(text, new) >= threshold - 1e-9 for text in texts)


def test_chinese_is_compared_by_character() -> None:
    pool = Pool(0.7)
    pool.add("请把下面的句子翻译成英文。")
    assert pool.has_similar("请把下面这个句子翻译成英文")
    assert not pool.has_similar("写一首关于秋天的短诗。")


def test_fifty_thousand_instructions_are_searched_in_milliseconds() -> None:
    draw = random.Random(1)
    words = [f"w{number}" for number in range(3_000)]
    weights = [1 / (rank + 3) for rank in range(3_000)]  # as in real texts: a few words are in nearly all of them
    texts = [" ".join(draw.choices(words, weights, k=draw.randint(6, 25))) for _ in range(50_000)]
    pool = Pool(0.7)
    for text in texts:
        pool.add(text)
    began = time.process_time()
    result = [pool.has_similar(text) for text in texts[:50]]
    fresh = [pool.has_similar(" ".join(draw.choices(words, weights, k=12))) for _ in range(50)]
    assert all(result)
    assert sum(fresh) < 10
    assert (time.process_time() - began) / 100 < 0.05  # measured: 2 ms
