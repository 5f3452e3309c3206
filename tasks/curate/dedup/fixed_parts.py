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
from tasks.curate.dedup.text_groups import LARGE_SHARE, LEAST_ROWS, Candidates, Marks
from tasks.curate.dedup.tokens import Hashes, tokenise

TextsOf = Callable[[Indices], Sequence[RowTexts]]

GUARDED_SHARE = 0.25
"""What links more of the training rows with golden ones is looked at again."""
COMMON_SHARE = 0.1
"""What fewer of a group's rows hold is no fixed part."""
MOST_ROWS = 20_000
"""Rows of a group in which the fixed parts are looked for."""
PAIRS_AT_ONCE = 20_000


def share_more(found: Candidates, total: int, guarded: Marks, trained: int, texts: TextsOf) -> Marks:
    """(pairs,): do the two rows, which share text, share more than a fixed part of many prompts?

    Args:
        total: how many rows there are.
        guarded: (pairs,) one of the two is a golden or benchmark row.
        trained: how many training rows there are.
        texts: of some rows.
    """
    marks = np.ones(len(found.pairs), np.bool_)
    if len(found.pairs) < LEAST_ROWS - 1:
        return marks
    groups, sizes = _groups(found.pairs)
    are_large = sizes > LARGE_SHARE * total
    if len(np.unique(found.pairs[guarded])) > GUARDED_SHARE * trained:
        are_large[groups[guarded]] = True
    for group in np.flatnonzero(are_large & (sizes >= LEAST_ROWS)):
        places = np.flatnonzero(groups == group)
        some = np.unique(found.pairs[places])[:MOST_ROWS]
        fixed = _fixed_parts(texts(some), max(LEAST_ROWS, int(COMMON_SHARE * len(some))))
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
