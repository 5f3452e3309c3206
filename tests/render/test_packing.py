"""Room `render`: packed rows are mixed, and no more than best-fit decreasing takes."""

from __future__ import annotations

import time
import tracemalloc
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.render.packing.best_fit import Numbers, best_fit
from tasks.render.packing.by_length import ranks_of
from tasks.render.packing.packing import Packed, pack

Lengths = npt.NDArray[np.integer[Any]]


def one_by_one(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing as its definition says it: the lengths of each row."""
    rows: list[list[int]] = []
    room: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row in range(len(rows)) if room[row] >= length]
        if not fitting:
            rows.append([])
            room.append(capacity)
            fitting = [len(rows) - 1]
        row = min(fitting, key=lambda each: (room[each], each))
        rows[row].append(length)
        room[row] -= length
    return rows


def numbers(count: int, lowest: int, highest: int, seed: int = 0) -> Numbers:
    return np.random.default_rng(seed).integers(lowest, highest, count).astype(np.int32)


def hashes(count: int) -> npt.NDArray[np.uint16]:
    return numbers(count, 0, 2**16, seed=1).astype(np.uint16)


def packed(lengths: Lengths, capacity: int, trained: Lengths | None = None) -> Packed:
    return pack(lengths, lengths if trained is None else trained, hashes(len(lengths)), capacity)


def sums(packed: Packed, values: Lengths) -> Lengths:
    """Of each row."""
    starts = np.cumsum(packed.counts) - packed.counts
    return np.add.reduceat(values[packed.order], starts, dtype=np.int64)


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 256))
def test_best_fit_decreasing_follows_its_definition(lengths: list[int], capacity: int) -> None:
    assert_best_fit(lengths, capacity)


@given(st.lists(st.sampled_from([1, 2, 3, 7, 20]), max_size=300))
def test_best_fit_decreasing_lays_few_lengths_out_so_too(lengths: list[int]) -> None:
    assert_best_fit(lengths, 20)


def assert_best_fit(lengths: list[int], capacity: int) -> None:
    shares, count = best_fit(np.bincount(lengths) if lengths else np.zeros(0, np.int64), capacity)
    rows: list[list[int]] = [[] for _ in range(count)]
    for length, of_length in shares.items():
        for share in of_length:
            for row in share.rows.tolist()[:-1]:
                rows[row] += [length] * share.per_row
            rows[int(share.rows[-1])] += [length] * share.in_last
    assert rows == one_by_one(lengths, capacity)


@st.composite
def distributions(draw: st.DrawFn) -> tuple[list[int], int]:
    """Lengths as data have them: even, of few values, of two groups, with a long tail, many cut at the longest; and a capacity."""
    capacity = draw(st.sampled_from([20, 128, 896, 1024, 4096]))
    longest = draw(st.integers(max(1, capacity // 20), capacity))
    count = draw(st.integers(0, 400))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    lengths = {
        "even": lambda: random.integers(1, longest + 1, count),
        "few": lambda: random.choice(random.integers(1, longest + 1, 4), count),
        "two groups": lambda: np.where(
            random.random(count) < 0.5, longest, random.integers(1, max(2, longest // 3), count)
        ),
        "tail": lambda: random.lognormal(np.log(max(2, longest / 8)), 0.9, count),
    }[draw(st.sampled_from(["even", "few", "two groups", "tail"]))]()
    return np.clip(lengths.astype(np.int64), 1, longest).tolist(), capacity


def rows_of(packed: Packed) -> list[list[int]]:
    """The examples of each row."""
    return [row.tolist() for row in np.split(packed.order, np.cumsum(packed.counts)[:-1])] if len(packed.counts) else []


@settings(deadline=None)
@given(distributions())
def test_every_example_is_in_one_row_and_there_are_no_more_rows_than_by_best_fit_decreasing(
    drawn: tuple[list[int], int],
) -> None:
    lengths, capacity = drawn
    result = packed(np.array(lengths, np.int32), capacity)
    assert sorted(result.order.tolist()) == list(range(len(lengths)))
    assert all(sum(lengths[example] for example in row) <= capacity for row in rows_of(result))
    assert len(rows_of(result)) <= len(one_by_one(lengths, capacity))


@settings(deadline=None, max_examples=20)
@given(distributions())
def test_equal_examples_are_packed_equally(drawn: tuple[list[int], int]) -> None:
    lengths, capacity = np.array(drawn[0], np.int32), drawn[1]
    assert rows_of(packed(lengths, capacity)) == rows_of(packed(lengths.copy(), capacity))


def two_tasks(count: int) -> tuple[Lengths, Lengths]:
    """As the demo has them: texts with a topic, nearly all of one length, then questions, shorter, with longer answers."""
    draw = np.random.default_rng(3)
    is_topic = np.arange(count) < count * 0.58
    lengths = np.where(is_topic, np.minimum(draw.integers(105, 140, count), 112), draw.integers(42, 100, count))
    trained = np.where(is_topic, draw.integers(2, 5, count), draw.integers(2, 42, count))
    return lengths.astype(np.int32), trained.astype(np.int32)


@pytest.mark.parametrize("count", [400, 20_000])
def test_each_row_holds_both_tasks_and_about_as_many_trained_tokens(count: int) -> None:
    lengths, trained = two_tasks(count)
    result = packed(lengths, 896, trained)
    is_topic = np.arange(count) < count * 0.58
    topics = sums(result, is_topic.astype(np.int32)) / result.counts
    assert np.mean((topics > 0.2) & (topics < 0.9)) > 0.95
    per_row = sums(result, trained)
    assert per_row.std() / per_row.mean() < 0.25
    assert lengths.sum() / (len(result.counts) * 896) > 0.98


def test_examples_of_one_length_are_mixed_as_well() -> None:
    lengths, is_second = np.full(6_000, 100, np.int32), np.arange(6_000) >= 3_000
    result = packed(lengths, 1024, np.ones(6_000, np.int32))
    share = sums(result, is_second.astype(np.int32)) / result.counts
    assert np.mean((share > 0) & (share < 1)) > 0.97
    uneven = np.where(is_second, 40, 2)
    assert sums(packed(lengths, 1024, uneven), uneven)[:-1].std() < 25


def test_copies_of_a_row_are_in_many_packed_rows() -> None:
    ids = np.repeat(np.array([f"{number:032x}" for number in range(10)], "S32"), 100)
    ranks = ranks_of(ids, 0)
    assert ranks_of(ids[300:], 300).tolist() == ranks[300:].tolist(), "whatever portion they come in"
    result = pack(np.full(1000, 100, np.int32), np.ones(1000, np.int32), ranks, 1000)
    for row in rows_of(result):
        assert len({example // 100 for example in row}) > 3
    assert len(ranks_of(ids[:0], 0)) == 0


def test_long_examples_do_not_wait_for_the_last_rows() -> None:
    lengths = np.minimum(np.random.default_rng(4).lognormal(5, 0.8, 20_000).astype(np.int32) + 8, 512)
    result = packed(lengths, 1024)
    longest = [lengths[row].max() for row in rows_of(result)]
    first, last = np.mean(longest[:1000]), np.mean(longest[-1000:])
    assert 0.9 < first / last < 1.1


@pytest.mark.parametrize("longest", [200, 512])
def test_hardly_a_token_is_padding(longest: int) -> None:
    lengths = numbers(5_000, 10, longest)
    assert lengths.sum() / (len(packed(lengths, 1024).counts) * 1024) > 0.99


def test_an_example_takes_no_longer_however_many_rows_are_open() -> None:
    took = []
    for lengths in (numbers(20_000, 8, 512), numbers(400_000, 8, 512)):
        start = time.process_time()
        result = packed(lengths, 1024)
        took.append((time.process_time() - start) / len(lengths))
        assert lengths.sum() / (len(result.counts) * 1024) > 0.99
    assert took[1] < 4 * took[0]


@pytest.mark.parametrize(("count", "shortest"), [(4_000_000, 30), (2_000_000, 74)])
def test_an_example_takes_a_few_bytes_while_rows_are_packed(count: int, shortest: int) -> None:
    lengths = numbers(count, shortest, 75).astype(np.uint8)
    trained, ranks = numbers(len(lengths), 1, 30, seed=2).astype(np.uint8), hashes(len(lengths))
    tracemalloc.start()
    pack(lengths, trained, ranks, 1024)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 7 * len(lengths)
