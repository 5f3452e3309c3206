"""Links between rows that belong in one split: near-duplicates and shared text. Pure but for the texts, which the state reads."""

from __future__ import annotations

import numpy as np

from tasks.curate.batch_state import BatchState
from tasks.curate.dedup.candidates import Candidates, FixedParts, Marks
from tasks.curate.dedup.fixed_parts import share_more
from tasks.curate.dedup.known import NO_SPLIT, PROTECTED, TRAIN
from tasks.curate.dedup.near_rows import near_rows
from tasks.curate.dedup.shared_text import links_after_boilerplate, share_text
from tasks.curate.dedup.text_groups import Groups

PAIRS_AT_ONCE = 20_000


def link_near_duplicates(state: BatchState) -> None:
    """Drops near-duplicates, and links rows that are near each other."""
    threshold = state.settings.near_duplicate_threshold
    near, same = near_rows(state.table, state.signatures.bands, threshold, state.texts)
    for row in sorted(near):
        _link_or_drop(state, row, [other for other in near[row] if _pins_split(state, other)], same.get(row, []))


def _pins_split(state: BatchState, row: int) -> bool:
    """Do rows near it follow its split? A golden or benchmark row that is a tombstone protects nothing any more."""
    split = state.table.split[row]
    return bool(split != NO_SPLIT and not (state.table.is_tombstone[row] and split in PROTECTED))


def _link_or_drop(state: BatchState, row: int, near: list[int], same: list[int]) -> None:
    """Drops a new row that repeats an earlier one, or links it with the rows that it is near.

    Args:
        near: earlier rows near it.
        same: those of them with the same question and answer.
    """
    table = state.table
    if table.split[row] == NO_SPLIT:
        return
    if table.split[row] in PROTECTED:
        if not table.is_tombstone[row]:
            state.overlaps += [(row, other) for other in near]
        return
    protected = [other for other in near if table.split[other] in PROTECTED]
    copies = [other for other in same if table.is_active(np.array([other]))[0]]
    if protected:
        state.drop(row, "contaminated", state.id_of(protected[0]))
    elif copies and state.settings.near_duplicates == "drop" and not state.is_released(row):
        state.drop(row, "near_duplicate", state.id_of(copies[0]))
    else:
        state.links += [(other, row) for other in near]


def link_shared_text(state: BatchState) -> None:
    """Links rows that share text."""
    table, settings = state.table, state.settings
    groups = Groups(table, state.signatures, settings.common_passage_rows, settings.common_passage_share)
    earlier, numbers = groups.between_splits()
    groups.drop_groups(numbers[_share_text(state, earlier, groups.fixed)])
    pairs = groups.candidates()
    pairs = pairs.chosen(_share_text(state, pairs, groups.fixed))
    none = pairs.part(0, 0)
    after = none.with_more(links_after_boilerplate(groups.boilerplate, state.texts, groups.most))
    if not groups.fixed.is_empty:
        after = after.chosen(_share_text(state, after, groups.fixed))
    pairs = pairs.with_more(after.pairs)
    has_protected = np.isin(table.split[pairs.pairs], PROTECTED).max(axis=1)
    total = int(np.sum(table.split != NO_SPLIT))
    share = share_more(pairs, total, has_protected, table.split == TRAIN, state.texts)
    for first, second in pairs.pairs[share].tolist():
        _link(state, first, second)


def _share_text(state: BatchState, pairs: Candidates, fixed: FixedParts) -> Marks:
    """(pairs,) do the rows share text? In portions: the texts of many rows would fill the memory."""
    marks = [np.zeros(0, np.bool_)]
    for start in range(0, len(pairs.pairs), PAIRS_AT_ONCE):
        portion = pairs.part(start, PAIRS_AT_ONCE)
        has_protected = np.isin(state.table.split[portion.pairs], PROTECTED).max(axis=1)
        rows = np.unique(portion.pairs)
        marks.append(share_text(portion, has_protected, rows, state.texts(rows), fixed))
    return np.concatenate(marks)


def _link(state: BatchState, first: int, second: int) -> None:
    table = state.table
    protected = [row for row in (first, second) if table.split[row] in PROTECTED]
    if not protected:
        state.links.append((first, second))
    elif len(protected) == 1 and not table.is_tombstone[protected[0]]:
        state.overlaps.append((protected[0], first + second - protected[0]))
