"""Decides on a batch's rows, given all rows before: duplicates, near-duplicates, splits, contamination. Pure but for the texts.

    1  a row that its own filters refuse is dropped (filters.py)
    2  a duplicate of an earlier row is dropped; of two answers to one prompt, one is dropped as `curate.conflicts` sets
    3  a near-duplicate is dropped; one of a golden or benchmark row is dropped whatever its answer
    4  rows that are near each other, or share text, go to one split: that of the earlier rows; a cross-split duplicate is dropped
    5  a row made of feedback on a served answer is dropped if it would follow another row into a held-out split
    6  a training row that shares text with a golden or benchmark row is dropped, also one of an earlier batch

Batches are decided in their order, so that one run over all of them decides as runs over one after another do.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from tasks.curate.batch_state import BatchState
from tasks.curate.dedup.known import NO_SPLIT, PROTECTED, TRAIN
from tasks.curate.dedup.near import conflicting_pairs, duplicate_representatives
from tasks.curate.links import link_near_duplicates, link_shared_text
from tasks.curate.sides.place import Assignment, assign_splits, fill_empty_splits


def decide(state: BatchState) -> None:
    """Decides on the rows of one batch, which are indexed afterwards."""
    settings = state.settings
    _drop_duplicates(state)
    if settings.conflicts != "keep":
        _resolve_conflicts(state)
    if settings.near_duplicates != "off":
        link_near_duplicates(state)
    if settings.decontaminate:
        link_shared_text(state)
    _assign_splits(state)
    _decontaminate(state)
    state.table.index_rows([state.signatures])


def _drop_duplicates(state: BatchState) -> None:
    splits = state.table.split
    representatives = duplicate_representatives(state.table)
    for number in np.flatnonzero(representatives >= 0).tolist():
        row, representative = state.first_new + number, int(representatives[number])
        if splits[row] in PROTECTED and splits[representative] == TRAIN:
            state.remove(representative, row, "contaminated")  # the held-out copy stays
        else:
            state.drop(row, "duplicate", state.id_of(representative))


def _resolve_conflicts(state: BatchState) -> None:
    """Of rows of one source with one prompt and several answers, keeps the newest or the first, as the policy sets."""
    splits = state.table.split
    for first, second in conflicting_pairs(state.table):
        if splits[first] == NO_SPLIT or splits[second] == NO_SPLIT:
            continue
        if state.settings.conflicts == "newest":
            state.remove(first, second, "superseded")
        elif not state.is_released(second):
            state.drop(second, "conflict", state.id_of(first), "output")


def _assign_splits(state: BatchState) -> None:
    """Moves linked rows to one split."""
    splits = state.table.split
    links = [(first, second) for first, second in state.links if NO_SPLIT not in (splits[first], splits[second])]
    assignment = assign_splits(links, state.first_new, lambda row: int(splits[row]), state.pins)
    for row, between in sorted(assignment.cross_split.items()):
        state.drop(row, "bridges_splits", " ".join(map(state.id_of, between)))
    _fill_empty_splits(state, assignment)
    for row, (split, anchor) in assignment.splits.items():
        number = row - state.first_new
        # synthetic rows are never tested on, and no user's answer becomes the target of what is a test question already
        if split != TRAIN and (state.synthetic[number] or (state.served[number] and anchor != row)):
            state.drop(row, "contaminated", state.id_of(anchor))
            continue
        splits[row] = split
        if anchor != row:
            state.representative[number] = state.id_of(anchor)


def _fill_empty_splits(state: BatchState, assignment: Assignment) -> None:
    table = state.table
    rows_in = Counter(table.split.tolist())
    for row, (split, _) in assignment.splits.items():
        rows_in[int(table.split[row])] -= 1
        rows_in[split] += 1
    synthetic = {anchor for row, (_, anchor) in assignment.splits.items() if state.synthetic[row - state.first_new]}

    def is_movable(row: int) -> bool:
        return row >= state.first_new and row not in state.pins and row not in synthetic

    fill_empty_splits(assignment, rows_in, is_movable, lambda row: int(table.rows["key"][row]))


def _decontaminate(state: BatchState) -> None:
    """Drops training rows that overlap a golden or benchmark row."""
    table = state.table
    for protected, row in state.overlaps:
        is_trained = table.split[row] == TRAIN and not table.is_tombstone[row]
        if is_trained and table.split[protected] != NO_SPLIT:
            state.remove(row, protected, "contaminated")
