"""Text that links too many rows to be a passage: the fixed parts of their prompts, which then count no more. Pure.

One template with a short slot links its rows by what stands on its border: `... the booking. Customer Ann`. What a large share of
all rows hold does not count in the first place. If a group still holds a large share of them, or the training rows that share text
with golden ones are a large share, then what many rows of the group have in common is left out, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.curate.dedup.index import is_first
from tasks.curate.dedup.minhash import GRAM_TOKENS, grams_of, prints_of
from tasks.curate.dedup.shared_text import RowTexts, share_text
from tasks.curate.dedup.sketch_file import Indices
from tasks.curate.dedup.text_groups import LARGE_SHARE, LEAST_ROWS, Candidates, FixedParts, Marks
from tasks.curate.dedup.tokens import Hashes, tokenise

TextsOf = Callable[[Indices], Sequence[RowTexts]]

GUARDED_SHARE = 0.25
"""What links more of the training rows with golden ones is looked at again."""
EMPTYING_SHARE = 0.5
"""What links more of them is a template of both, however long it is, and however few rows hold it ..."""
LEAST_TRAINED, LEAST_OF_TEMPLATE = 10, 3
"""... if there are so many training rows, and so many of the group hold it."""
COMMON_SHARE = 0.1
"""What fewer of a group's rows hold is no fixed part."""
MOST_ROWS = 20_000
"""Rows of a group in which the fixed parts are looked for."""
PAIRS_AT_ONCE = 20_000


def share_more(found: Candidates, total: int, guarded: Marks, trained: Marks, texts: TextsOf) -> Marks:
    """(pairs,): do the two rows, which share text, share more than a fixed part of many prompts?

    Args:
        total: how many rows there are.
        guarded: (pairs,) one of the two is a golden or benchmark row.
        trained: (rows,) of all rows: is it a training row?
        texts: of some rows.
    """
    marks = np.ones(len(found.pairs), np.bool_)
    if len(found.pairs) < LEAST_OF_TEMPLATE:
        return marks
    groups, sizes = _groups(found.pairs)
    hit, trained_rows = np.unique(found.pairs[guarded]), int(trained.sum())
    emptied = int(trained[hit].sum()) > EMPTYING_SHARE * trained_rows and trained_rows >= LEAST_TRAINED
    are_large = (sizes > LARGE_SHARE * total) & (sizes >= LEAST_ROWS)
    if len(hit) > GUARDED_SHARE * trained_rows:
        are_large[groups[guarded]] |= sizes[groups[guarded]] >= (LEAST_OF_TEMPLATE + 1 if emptied else LEAST_ROWS)
    for group in np.flatnonzero(are_large):
        places = np.flatnonzero(groups == group)
        some = np.unique(found.pairs[places])[:MOST_ROWS]
        is_emptied = emptied and bool(guarded[places].any())
        least = max(LEAST_OF_TEMPLATE if is_emptied else LEAST_ROWS, int(COMMON_SHARE * len(some)))
        prints = _fixed_parts(texts(some), least)
        fixed = FixedParts(prints, prints) if is_emptied else FixedParts(prints)
        for start in range(0, len(places), PAIRS_AT_ONCE):
            part = places[start : start + PAIRS_AT_ONCE]
            chosen = Candidates(found.pairs[part], found.is_rare[part])
            rows = np.unique(chosen.pairs)
            marks[part] = share_text(chosen, np.zeros(len(part), np.bool_), rows, texts(rows), fixed)
    return marks


def _groups(pairs: Indices) -> tuple[Indices, Indices]:
    """(pairs,) the number of the group of rows that a pair belongs to, from 0; and (groups,) how many rows each has."""
    rows, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(-1, 2)
    ones = np.ones(len(places), np.bool_)
    graph = coo_array((ones, (places[:, 0], places[:, 1])), shape=(len(rows), len(rows)))
    of_row: Indices = connected_components(graph, directed=False)[1].astype(np.int64)
    return of_row[places[:, 0]], np.bincount(of_row)


def _fixed_parts(texts: Sequence[RowTexts], least: int) -> Hashes:
    """The fingerprints, ascending, that at least so many of the texts hold: runs, and exchanges such as a greeting."""
    runs, owners = grams_of(tokenise([f"{each.prompt}\n{each.answer}" for each in texts]), GRAM_TOKENS)
    order = np.lexsort((owners, runs))
    runs, owners = runs[order], owners[order]
    runs = runs[is_first(runs) | is_first(owners)]
    starts = np.flatnonzero(is_first(runs))
    common = prints_of(runs[starts][np.diff(np.append(starts, len(runs))) >= least])
    counts = Counter(one for each in texts for one in each.exchanges)
    exchanges = [one for one, count in counts.items() if count >= least]
    return np.unique(np.concatenate([common.astype(np.uint64), np.array(exchanges, np.uint64)]))
