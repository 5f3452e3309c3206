"""Room `render`: examples side by side in packed rows, best-fit decreasing."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tasks.render.packing import Numbers, pack


def one_by_one(lengths: list[int], capacity: int) -> list[list[int]]:
    """Best-fit decreasing as its definition says it."""
    rows: list[list[int]] = []
    room: list[int] = []
    for example in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = [row for row in range(len(rows)) if room[row] >= lengths[example]]
        if not fitting:
            rows.append([])
            room.append(capacity)
            fitting = [len(rows) - 1]
        row = min(fitting, key=lambda each: (room[each], each))
        rows[row].append(example)
        room[row] -= lengths[example]
    return rows


def numbers(count: int, lowest: int, highest: int) -> Numbers:
    return np.random.default_rng(0).integers(lowest, highest, count).astype(np.int32)


@given(st.lists(st.integers(1, 64), max_size=200), st.integers(64, 256))
def test_each_example_lies_where_best_fit_decreasing_puts_it(lengths: list[int], capacity: int) -> None:
    assert pack(np.array(lengths, np.int32), capacity).rows == one_by_one(lengths, capacity)


@given(st.lists(st.sampled_from([1, 2, 3, 7, 20]), max_size=300))
def test_examples_of_few_lengths_lie_there_too(lengths: list[int]) -> None:
    assert pack(np.array(lengths, np.int32), 20).rows == one_by_one(lengths, 20)


def test_hardly_a_token_is_padding() -> None:
    lengths = numbers(5_000, 10, 200)
    assert lengths.sum() / (len(pack(lengths, 1024).counts) * 1024) > 0.99


def test_an_example_takes_no_longer_however_many_rows_are_open() -> None:
    took = []
    for lengths in (numbers(20_000, 8, 512), numbers(400_000, 8, 512)):
        start = time.process_time()
        packed = pack(lengths, 1024)
        took.append((time.process_time() - start) / len(lengths))
        assert lengths.sum() / (len(packed.counts) * 1024) > 0.99
    assert took[1] < 4 * took[0]


def test_an_example_takes_a_few_bytes_while_rows_are_packed() -> None:
    lengths = numbers(4_000_000, 30, 75).astype(np.uint8)
    tracemalloc.start()
    pack(lengths, 1024)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 7 * len(lengths)
