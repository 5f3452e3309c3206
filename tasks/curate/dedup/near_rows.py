"""Which new rows are near an earlier one, and which of them say the same. Pure but for the texts, which are read where they are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from tasks.curate.dedup.known import Known
from tasks.curate.dedup.minhash import SHINGLE_TOKENS, Bands
from tasks.curate.dedup.near import Shingles, candidate_pairs, rows_alike
from tasks.curate.dedup.shared_text import RowTexts
from tasks.curate.dedup.sketch_file import Indices
from tasks.curate.dedup.wording import MOST_OTHER_TOKENS, differ_in_wording_alone, have_the_same_words
from tasks.records.segmentation import normalise

MOST_ALIKE = 10
"""A shingle that more rows have, of those which resemble each other, is a fixed part of their prompts."""

Rows = dict[int, list[int]]
"""A new row → earlier rows."""


def near_rows(
    known: Known, first_new: int, bands: Bands, threshold: float, texts_of: Callable[[Indices], Sequence[RowTexts]]
) -> tuple[Rows, Rows]:
    """The earlier rows that each new row is near, and those of them that it repeats: the same question with the same answer.

    Args:
        first_new: the number of the first new row; those before are in the index.
        bands: (new rows, BANDS).
        threshold: least Jaccard similarity of two prompts' shingles.
    """
    pairs = candidate_pairs(known, first_new, bands)
    if not len(pairs):
        return {}, {}
    rows = np.unique(pairs)
    texts = dict(zip(rows.tolist(), texts_of(rows), strict=True))
    similar, alone = Shingles(rows, [texts[row].input for row in rows.tolist()]).compare(pairs)
    pairs, alone = pairs[similar >= threshold], alone[similar >= threshold]
    if not len(pairs):
        return {}, {}
    rows = np.unique(pairs)
    outputs = Shingles(rows, [texts[row].output for row in rows.tolist()])
    have_one_answer = outputs.compare(pairs)[0] >= threshold
    others = rows_alike(known, first_new, bands, rows[rows >= first_new], MOST_ALIKE)
    others = others[~np.isin(others, rows)]
    everything = np.concatenate([rows, others])
    order = np.argsort(everything)
    unsorted = [*(texts[row] for row in rows.tolist()), *(texts_of(others) if len(others) else ())]
    every = [unsorted[number] for number in order]
    alike = Shingles(everything[order], [each.input for each in every])
    has_slot = alike.leave_out_common(MOST_ALIKE, [normalise(each.output) for each in every])
    have_slots = np.all(has_slot[np.searchsorted(everything[order], pairs)], axis=1)
    # a name that many rows hold, and only one of these two, is no fixed part of theirs
    shared = alike.shared(pairs)
    differ_little = shared >= threshold * (shared + alone)
    may_be_same = alone <= SHINGLE_TOKENS * MOST_OTHER_TOKENS
    near: Rows = defaultdict(list)
    same: Rows = defaultdict(list)
    marks = zip(*(mark.tolist() for mark in (may_be_same, have_one_answer, differ_little, have_slots)), strict=True)
    for (first, second), (is_same, has_one_answer, differs_little, has_slots) in zip(
        pairs.tolist(), marks, strict=True
    ):
        one, other = texts[first], texts[second]
        is_same = is_same and (has_one_answer or not differs_little) and differ_in_wording_alone(one.input, other.input)
        if is_same or differs_little:
            near[second].append(first)
        if has_slots and not differs_little:  # a word more in a short slot is another question
            is_same = is_same and have_the_same_words(one.input, other.input)
        if is_same and has_one_answer and differ_in_wording_alone(one.output, other.output):
            same[second].append(first)
    return near, same
