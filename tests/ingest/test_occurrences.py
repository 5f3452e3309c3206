"""How often a record is held is counted in little memory, as a counter of its digests would."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.ingest.changes import occurrences
from tasks.ingest.changes.occurrences import Digests, HeldRecords, Reading

DIGESTS = st.lists(
    st.sampled_from(["00" * 16, "ff" * 16, "00" * 15 + "01", "ab" * 8 + "00" * 8, "ab" * 8 + "01" * 8, "12" * 16])
)


def digests(given: list[str]) -> Digests:
    found = Digests()
    found.extend(given)
    return found


@settings(deadline=None)
@given(st.lists(DIGESTS), DIGESTS, st.sampled_from([0, 3, 100]))
def test_what_is_new_is_what_is_beyond_the_number_held(held: list[list[str]], read: list[str], loose: int) -> None:
    counted, known = Counter[str](), HeldRecords()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(occurrences, "MOST_LOOSE", loose)
        for batch in held:
            known.add(digests(batch))
            counted.update(batch)
    reading, seen = Reading(known), Counter[str]()
    for digest in read:
        seen[digest] += 1
        assert reading.is_new(digest) == (seen[digest] > counted[digest])


def test_digests_come_back_as_they_were() -> None:
    found = digests(["0f" * 16, "a0" * 16])
    found.append("00" * 16)
    assert (len(found), list(found)) == (3, ["0f" * 16, "a0" * 16, "00" * 16])
