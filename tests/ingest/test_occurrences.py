"""Occurrences of records are counted in little memory, with the result of a counter of their digests."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.changes import occurrences
from tasks.ingest.changes.occurrences import Digests, ItemOccurrences, RecordCounts

DIGESTS = st.lists(
    st.sampled_from(["00" * 16, "ff" * 16, "00" * 15 + "01", "ab" * 8 + "00" * 8, "ab" * 8 + "01" * 8, "12" * 16])
)


def digests(texts: list[str]) -> Digests:
    digests = Digests()
    digests.extend(texts)
    return digests


@settings(deadline=None)
@given(st.lists(DIGESTS), DIGESTS, st.sampled_from([0, 3, 100]))
def test_a_record_is_new_if_it_occurs_more_often_than_in_raw(
    batches: list[list[str]], item: list[str], most_unsorted: int
) -> None:
    counted, known = Counter[str](), RecordCounts()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(occurrences, "MOST_UNSORTED", most_unsorted)
        for batch in batches:
            known.add(digests(batch))
            counted.update(batch)
    occurrences_in_item, seen = ItemOccurrences(known), Counter[str]()
    for digest in item:
        seen[digest] += 1
        assert occurrences_in_item.is_new(digest) == (seen[digest] > counted[digest])


def test_digests_are_returned_as_they_were_added() -> None:
    three = digests(["0f" * 16, "a0" * 16])
    three.append("00" * 16)
    assert (len(three), list(three)) == (3, ["0f" * 16, "a0" * 16, "00" * 16])
