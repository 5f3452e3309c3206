"""Fixed parts of prompts: text that links too many rows to be a passage, and is then excluded. Pure.

One template with a short slot links its rows by the text at the border of the slot: `... the booking. Customer Ann`. Text in a
large share of all rows is excluded from the start. If a group of linked rows is still a large share of all rows, or a large share
of the training rows overlaps golden rows, then text that many rows of the group have in common is excluded as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from tasks.curate.dedup.candidates import Candidates, FixedParts, Marks
from tasks.curate.dedup.index import Indices, distinct_by_owner, frequent_values
from tasks.curate.dedup.minhash import GRAM_TOKENS, grams_of, to_fingerprints
from tasks.curate.dedup.shared_text import RowTexts, share_text
from tasks.curate.dedup.text_groups import LARGE_SHARE, LEAST_ROWS
from tasks.curate.dedup.tokens import Hashes, tokenise

TextsOf = Callable[[Indices], Sequence[RowTexts]]

PROTECTED_SHARE = 0.25
"""If more of the training rows than this overlap golden or benchmark rows, the groups of these are checked again."""
EMPTYING_SHARE = 0.5
"""If more of them do, the overlap is a template of both, however long it is, and however few rows hold it ..."""
LEAST_TRAINED, LEAST_OF_TEMPLATE = 10, 3
"""... given so many training rows, and so many rows of the group that hold it."""
COMMON_SHARE = 0.1
"""The share of a group's rows from which common text is a fixed part."""
MOST_ROWS = 20_000
"""Rows of a group that are searched for fixed parts."""
PAIRS_AT_ONCE = 20_000


def share_more(candidates: Candidates, total: int, protected: Marks, trained: Marks, texts: TextsOf) -> Marks:
    """(pairs,): do the two rows share more than a fixed part of many prompts?

    Args:
        candidates: pairs of rows that share text.
        total: how many rows there are.
        protected: (pairs,) one of the two is a golden or benchmark row.
        trained: (rows,) of all rows: is it a training row?
        texts: reads the text of some rows.
    """
    marks = np.ones(len(candidates.pairs), np.bool_)
    if len(candidates.pairs) < LEAST_OF_TEMPLATE:
        return marks
    groups, sizes = _groups(candidates.pairs)
    overlapping, trained_rows = np.unique(candidates.pairs[protected]), int(trained.sum())
    is_emptied = int(trained[overlapping].sum()) > EMPTYING_SHARE * trained_rows and trained_rows >= LEAST_TRAINED
    is_large = (sizes > LARGE_SHARE * total) & (sizes >= LEAST_ROWS)
    if len(overlapping) > PROTECTED_SHARE * trained_rows:
        is_large[groups[protected]] |= sizes[groups[protected]] >= (LEAST_OF_TEMPLATE + 1 if is_emptied else LEAST_ROWS)
    for group in np.flatnonzero(is_large):
        group_pairs = np.flatnonzero(groups == group)
        group_rows = np.unique(candidates.pairs[group_pairs])[:MOST_ROWS]
        group_is_emptied = is_emptied and bool(protected[group_pairs].any())
        minimum = max(LEAST_OF_TEMPLATE if group_is_emptied else LEAST_ROWS, int(COMMON_SHARE * len(group_rows)))
        fingerprints = _fixed_parts(texts(group_rows), minimum)
        fixed = FixedParts(fingerprints, fingerprints) if group_is_emptied else FixedParts(fingerprints)
        for start in range(0, len(group_pairs), PAIRS_AT_ONCE):
            portion_pairs = group_pairs[start : start + PAIRS_AT_ONCE]
            portion = Candidates(candidates.pairs[portion_pairs], candidates.is_rare[portion_pairs])
            rows = np.unique(portion.pairs)
            marks[portion_pairs] = share_text(portion, np.zeros(len(portion_pairs), np.bool_), rows, texts(rows), fixed)
    return marks


def _groups(pairs: Indices) -> tuple[Indices, Indices]:
    """(pairs,) the number, from 0, of each pair's group of connected rows; and (groups,) the rows of each group."""
    rows, nodes = np.unique(pairs, return_inverse=True)
    nodes = nodes.reshape(-1, 2)
    edges = np.ones(len(nodes), np.bool_)
    graph = coo_array((edges, (nodes[:, 0], nodes[:, 1])), shape=(len(rows), len(rows)))
    of_row: Indices = connected_components(graph, directed=False)[1].astype(np.int64)
    return of_row[nodes[:, 0]], np.bincount(of_row)


def _fixed_parts(texts: Sequence[RowTexts], minimum: int) -> Hashes:
    """The fingerprints, ascending, that at least `minimum` of the texts hold: runs, and exchanges such as a greeting."""
    grams = grams_of(tokenise([f"{text.prompt}\n{text.answer}" for text in texts]), GRAM_TOKENS)
    common = to_fingerprints(frequent_values(distinct_by_owner(*grams)[0], minimum))
    counts = Counter(exchange for text in texts for exchange in text.exchanges)
    exchanges = [exchange for exchange, count in counts.items() if count >= minimum]
    return np.unique(np.concatenate([common.astype(np.uint64), np.array(exchanges, np.uint64)]))
