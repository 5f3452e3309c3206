"""The index from hashes to rows equals a scan of all rows, whatever the number of batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.curate.dedup import index as index_module
from tasks.curate.dedup.index import MOST_ROWS, Index, entries_of, hashes_of, rows_of, sorted_once, with_common_hash

BATCHES = st.lists(st.lists(st.integers(0, 12), max_size=12), min_size=1, max_size=12)


@given(BATCHES, st.sets(st.integers(0, 14), min_size=1), st.sets(st.integers(0, 150)), st.sampled_from([0, 3, 1000]))
def test_an_index_equals_a_scan_of_all_rows(
    batches: list[list[int]], chosen: set[int], gone: set[int], sorted_at_once: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "SORTED_AT_ONCE", sorted_at_once)
        patch.setattr(index_module, "SHORT_RUN", 2)
        patch.setattr(index_module, "AT_ONCE", 5)
        patch.setattr(index_module, "SCANS_WORTH_A_SORT", 2)
        present = np.ones(1000, np.bool_)
        index = Index(lambda rows: present[rows])
        rows: list[tuple[int, int]] = []
        requests = np.array(sorted(chosen), np.uint64)
        for batch in batches:
            first = len(rows)
            hashes = np.array(batch, np.uint32)
            index.add(hashes, lambda at, hashes=hashes, first=first: entries_of(hashes[at], first + at))
            rows += [(number, first + index) for index, number in enumerate(batch)]
            check(index, rows, requests, present)
            present[[row for row in gone if row < len(rows)]] = False
            check(index, rows, requests, present)


def check(index: Index, rows: list[tuple[int, int]], hashes: Any, present: Any) -> None:
    expected = {hash_: [row for number, row in rows if number == hash_ and present[row]] for hash_ in hashes.tolist()}
    first, last = index.ends(hashes)
    assert first.tolist() == [min(held, default=MOST_ROWS) for held in expected.values()]
    assert last.tolist() == [max(held, default=-1) for held in expected.values()]
    entries, none_left_out = index.all_of(hashes, most=10_000)
    assert sorted(zip(hashes_of(entries).tolist(), rows_of(entries).tolist(), strict=True)) == [
        (hash_, row) for hash_, held in expected.items() for row in held
    ]
    assert not len(none_left_out)
    some, left_out = index.all_of(hashes, most=3)
    assert all(len(held) <= 3 or hash_ in left_out for hash_, held in expected.items())
    assert set(hashes_of(some).tolist()).isdisjoint(left_out.tolist())


def test_the_last_hash_there_can_be_is_found_too() -> None:
    index = Index(lambda rows: np.ones(len(rows), np.bool_))
    highest = np.array([(1 << 36) - 1], np.uint64)
    index.add(highest.astype(np.uint32), lambda at: entries_of(highest[at], at + 5))
    assert [ends.tolist() for ends in index.ends(highest)] == [[5], [5]]


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), max_size=20))
def test_entries_with_a_common_hash_are_those_of_hashes_that_several_rows_hold(pairs: list[tuple[int, int]]) -> None:
    rows: dict[int, set[int]] = {}
    for number, row in pairs:
        rows.setdefault(number, set()).add(row)
    numbers, holders = (np.array([pair[place] for pair in pairs], np.int64) for place in (0, 1))
    kept = with_common_hash(sorted_once(entries_of(numbers.astype(np.uint64), holders)))
    expected = sorted((number, row) for number, group in rows.items() if len(group) > 1 for row in group)
    assert list(zip(hashes_of(kept).tolist(), rows_of(kept).tolist(), strict=True)) == expected
