"""Which new rows are near an earlier row, and which of them repeat it. Pure but for the texts, which are read by the caller."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence

import numpy as np

from tasks.curate.dedup.index import Indices
from tasks.curate.dedup.known import RowTable
from tasks.curate.dedup.minhash import SHINGLE_TOKENS, Bands
from tasks.curate.dedup.near import Shingles, candidate_pairs, jaccard, rows_alike
from tasks.curate.dedup.shared_text import RowTexts
from tasks.curate.dedup.wording import MOST_OTHER_TOKENS, differ_in_wording_alone, have_the_same_words
from tasks.records.segmentation import normalise

MOST_ALIKE = 10
"""A shingle that more of the similar rows have is a fixed part of their prompts."""

Rows = dict[int, list[int]]
"""A new row → earlier rows."""


def near_rows(
    table: RowTable, bands: Bands, threshold: float, texts_of: Callable[[Indices], Sequence[RowTexts]]
) -> tuple[Rows, Rows]:
    """The earlier rows that each new row is near, and those of them that it repeats (same question, same answer).

    Args:
        threshold: least Jaccard similarity of two prompts' shingles.
    """
    pairs = candidate_pairs(table, bands)
    if not len(pairs):
        return {}, {}
    rows = np.unique(pairs)
    texts = dict(zip(rows.tolist(), texts_of(rows), strict=True))
    shared, union = Shingles(rows, [texts[row].input for row in rows.tolist()]).compare(pairs)
    is_near = jaccard(shared, union) >= threshold
    pairs, unshared = pairs[is_near], (union - shared)[is_near]
    if not len(pairs):
        return {}, {}
    rows = np.unique(pairs)
    outputs = Shingles(rows, [texts[row].output for row in rows.tolist()])
    have_one_answer = jaccard(*outputs.compare(pairs)) >= threshold
    similar = rows_alike(table, bands, rows[rows >= table.first_new], MOST_ALIKE)
    similar = similar[~np.isin(similar, rows)]
    all_rows = np.concatenate([rows, similar])
    order = np.argsort(all_rows)
    all_texts = [*(texts[row] for row in rows.tolist()), *(texts_of(similar) if len(similar) else ())]
    sorted_texts = [all_texts[number] for number in order]
    similar_rows = Shingles(all_rows[order], [text.input for text in sorted_texts])
    has_slot = similar_rows.remove_common(MOST_ALIKE, [normalise(text.output) for text in sorted_texts])
    have_slots = np.all(has_slot[np.searchsorted(all_rows[order], pairs)], axis=1)
    # a name that many rows hold but only one of these two is not a fixed part of both
    shared, _ = similar_rows.compare(pairs)
    differ_little = shared >= threshold * (shared + unshared)
    may_be_same = unshared <= SHINGLE_TOKENS * MOST_OTHER_TOKENS
    near: Rows = defaultdict(list)
    same: Rows = defaultdict(list)
    columns = (pairs, may_be_same, have_one_answer, differ_little, have_slots)
    for (first, second), is_same, has_one_answer, differs_little, has_slots in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        first_texts, second_texts = texts[first], texts[second]
        is_same = is_same and (has_one_answer or not differs_little)
        is_same = is_same and differ_in_wording_alone(first_texts.input, second_texts.input)
        if is_same or differs_little:
            near[second].append(first)
        if has_slots and not differs_little:  # an additional word in a short slot makes another question
            is_same = is_same and have_the_same_words(first_texts.input, second_texts.input)
        if is_same and has_one_answer and differ_in_wording_alone(first_texts.output, second_texts.output):
            same[second].append(first)
    return near, same
