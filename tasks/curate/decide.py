"""Decides on a batch's rows, given all rows before: duplicates, near-duplicates, sides, contamination. Pure but for `Texts`.

    1  a row that is to be dropped for itself is (filters.py)
    2  a duplicate of an earlier row is dropped; of two answers to one prompt, the one that the policy says
    3  a near-duplicate is dropped; one of a golden or benchmark row is, whatever its answer
    4  rows that are near each other, or share text, go to one side: that of the earlier ones; a row that would join two is dropped
    5  a training row that shares text with a golden or benchmark row is dropped, also where it came in an earlier batch

Rows come in the order of their batches, so that one run over all of them decides as runs over one after another do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.decided import Change, Decided
from tasks.curate.dedup.fixed_parts import share_more
from tasks.curate.dedup.known import (
    BENCHMARK,
    GOLDEN,
    NOWHERE,
    PROTECTED,
    SIDES,
    TRAIN,
    Known,
)
from tasks.curate.dedup.near import conflicting_pairs, leaders_of_duplicates
from tasks.curate.dedup.near_rows import near_rows
from tasks.curate.dedup.shared_text import RowTexts, links_after_boilerplate, share_text
from tasks.curate.dedup.sketch_file import Indices, Sketch
from tasks.curate.dedup.text_groups import Candidates, FixedParts, candidates
from tasks.curate.filters import NOTHING_LEFT
from tasks.curate.settings import CurateSettings
from tasks.curate.sides.place import Placed, fill_empty_sides, place

PAIRS_AT_ONCE = 20_000

Texts = Callable[[Known, Indices], list[RowTexts]]
"""Rows, and places among them → their texts."""


def decide(
    known: Known,
    sketch: Sketch,
    source: str,
    settings: CurateSettings,
    released: npt.NDArray[np.bool_],
    is_ghost: Any,
    texts: Texts,
    pinned: Sequence[str] = (),
) -> Decided:
    """Decides on one batch, whose rows are then known too.

    Args:
        known: the rows of all batches before.
        sketch: the batch's rows.
        source: the source that they came from.
        released: (rows,) accepted by a person: no filter drops them.
        is_ghost: (rows,) forgotten rows: others may follow them, they themselves are gone.
        texts: how the text of some rows is found.
        pinned: (rows,) the split that a row stays on, as the row that it took it from was erased; "" for most.
    """
    return _Fold(known, sketch, source, settings, released, np.asarray(is_ghost, np.bool_), texts, pinned).run()


class _Fold:
    def __init__(
        self,
        known: Known,
        sketch: Sketch,
        source: str,
        settings: CurateSettings,
        released: Any,
        is_ghost: Any,
        texts: Texts,
        pinned: Sequence[str],
    ) -> None:
        self.settings = settings
        self.texts = texts
        self.known = known
        self.sketch = sketch
        reasons = sketch.lines["reason"].to_pylist()
        self.reason = [
            "" if freed and reason != NOTHING_LEFT else reason for reason, freed in zip(reasons, released, strict=True)
        ]
        self.field: list[str] = sketch.lines["field"].to_pylist()
        self.value: list[str] = sketch.lines["value"].to_pylist()
        self.leader = [""] * len(self.reason)
        self.released = released
        self.synthetic = sketch.lines["is_synthetic"].to_numpy()
        splits, uses, synthetic = (sketch.lines[n].to_pylist() for n in ("split", "use", "is_synthetic"))
        sides = [_own_side(*each) for each in zip(splits, uses, synthetic, strict=True)]
        pins = {number: SIDES.index(split) for number, split in enumerate(pinned) if split}
        for number, side in pins.items():
            sides[number] = side
        sides = [NOWHERE if reason else side for side, reason in zip(sides, self.reason, strict=True)]
        self.first_new = known.append(sketch, source, sides, is_ghost)
        self.anchors = {self.first_new + number: side for number, side in pins.items()}
        self.links: list[tuple[int, int]] = []
        """An earlier row and a new one that stand on one side."""
        self.guarded: list[tuple[int, int]] = []
        """A golden or benchmark row, and another that shares text with it."""
        self.changes: dict[int, Change] = {}

    def run(self) -> Decided:
        self._drop_duplicates()
        if self.settings.conflicts != "keep":
            self._resolve_conflicts()
        if self.settings.near_duplicates != "off":
            self._find_near_duplicates()
        if self.settings.decontaminate:
            self._find_shared_text()
        self._place()
        for guard, row in self.guarded:
            is_trained = (
                self.known.side[row] == TRAIN and not self.known.is_ghost[row]
            )  # of one that is gone, nothing is left
            if is_trained and self.known.side[guard] != NOWHERE:
                self._take_out(row, guard, "contaminated")
        self.known.index_rows([self.sketch])
        side = self.known.side[self.first_new :].copy()
        return Decided(self.reason, self.field, self.value, side, self.leader, list(self.changes.values()))

    def _drop(self, row: int, reason: str, value: str, field: str = "input") -> None:
        self.reason[row - self.first_new] = reason
        self.field[row - self.first_new] = field
        self.value[row - self.first_new] = value
        self.known.side[row] = NOWHERE

    def _id(self, row: int) -> str:
        return self.known.row_id(row)

    def _drop_duplicates(self) -> None:
        leaders = leaders_of_duplicates(self.known, self.first_new)
        for number in np.flatnonzero(leaders >= 0):
            leader = int(leaders[number])
            if self.known.side[self.first_new + number] in PROTECTED and self.known.side[leader] == TRAIN:
                self._take_out(leader, self.first_new + int(number), "contaminated")  # the held-out copy stays
            else:
                self._drop(self.first_new + int(number), "duplicate", self._id(leader))

    def _resolve_conflicts(self) -> None:
        """Of rows of one source with one prompt and several answers, keeps the last or the first, as the policy says."""
        for first, second in conflicting_pairs(self.known, self.first_new):
            if self.known.side[first] == NOWHERE or self.known.side[second] == NOWHERE:
                continue
            if self.settings.conflicts == "newest":
                self._take_out(first, second, "superseded")
            elif not self.released[second - self.first_new]:
                self._drop(second, "conflict", self._id(first), "output")

    def _find_near_duplicates(self) -> None:
        """Drops near-duplicates, and links the rows that are near each other."""
        least = self.settings.near_duplicate_threshold
        near, same = near_rows(self.known, self.first_new, self.sketch.bands, least, self._texts_of)
        for row in sorted(near):
            self._follow(row, [each for each in near[row] if self._leads(each)], same.get(row, []))

    def _leads(self, row: int) -> bool:
        """Do others go by it? A golden or benchmark row that is gone guards nothing any more."""
        side = self.known.side[row]
        return bool(side != NOWHERE and not (self.known.is_ghost[row] and side in PROTECTED))

    def _follow(self, row: int, near: list[int], same: list[int]) -> None:
        """Drops a row that an earlier one makes superfluous, or links it with those that it resembles."""
        known = self.known
        if known.side[row] == NOWHERE:
            return
        if known.side[row] in PROTECTED:
            if not known.is_ghost[row]:
                self.guarded += [(row, each) for each in near]
            return
        guards = [each for each in near if known.side[each] in PROTECTED]
        copies = [each for each in same if known.is_held(np.array([each]))[0]]
        if guards:
            self._drop(row, "contaminated", self._id(guards[0]))
        elif copies and self.settings.near_duplicates == "drop" and not self.released[row - self.first_new]:
            self._drop(row, "near_duplicate", self._id(copies[0]))
        else:
            self.links += [(each, row) for each in near]

    def _find_shared_text(self) -> None:
        """Links the rows that share text."""
        settings = self.settings
        groups = candidates(
            self.known, self.first_new, self.sketch, settings.common_passage_rows, settings.common_passage_share
        )
        earlier, numbers = groups.between_sides()
        groups.drop_groups(numbers[self._share_text(earlier, groups.fixed)])
        found = groups.candidates()
        found = found.chosen(self._share_text(found, groups.fixed))
        after = found.chosen(np.zeros(len(found.pairs), np.bool_)).with_more(
            links_after_boilerplate(groups.boilerplate, self._texts_of, groups.most)
        )
        if not groups.fixed.is_empty:
            after = after.chosen(self._share_text(after, groups.fixed))
        found = found.with_more(after.pairs)
        known, pairs = self.known, found.pairs
        is_guarded = np.isin(known.side[pairs], PROTECTED).max(axis=1)
        total = int(np.sum(known.side != NOWHERE))
        for first, second in pairs[share_more(found, total, is_guarded, known.side == TRAIN, self._texts_of)].tolist():
            self._link(first, second)

    def _texts_of(self, rows: Indices) -> list[RowTexts]:
        return self.texts(self.known, rows)

    def _share_text(self, found: Candidates, fixed: FixedParts) -> npt.NDArray[np.bool_]:
        """(pairs,), some at a time: the texts of many rows would fill the memory."""
        marks = [np.zeros(0, np.bool_)]
        for start in range(0, len(found.pairs), PAIRS_AT_ONCE):
            some = found.part(start, PAIRS_AT_ONCE)
            is_guarded = np.isin(self.known.side[some.pairs], PROTECTED).max(axis=1)
            rows = np.unique(some.pairs)
            marks.append(share_text(some, is_guarded, rows, self.texts(self.known, rows), fixed))
        return np.concatenate(marks)

    def _link(self, first: int, second: int) -> None:
        known = self.known
        protected = [row for row in (first, second) if known.side[row] in PROTECTED]
        if not protected:
            self.links.append((first, second))
        elif len(protected) == 1 and not known.is_ghost[protected[0]]:
            self.guarded.append((protected[0], first + second - protected[0]))

    def _place(self) -> None:
        """Puts the linked rows on their sides."""
        known = self.known
        links = [pair for pair in self.links if known.side[pair[0]] != NOWHERE and known.side[pair[1]] != NOWHERE]
        placed = place(links, self.first_new, lambda row: int(known.side[row]), self.anchors)
        for row, between in sorted(placed.bridges.items()):
            self._drop(row, "bridges_splits", " ".join(map(self._id, between)))
        self._fill_empty_sides(placed)
        for row, (side, anchor) in placed.sides.items():
            if side != TRAIN and self.synthetic[row - self.first_new]:
                self._drop(row, "contaminated", self._id(anchor))  # made data are never tested on
                continue
            known.side[row] = side
            if anchor != row:
                self.leader[row - self.first_new] = self._id(anchor)

    def _fill_empty_sides(self, placed: Placed) -> None:
        known = self.known
        rows_on = Counter(known.side.tolist())
        for row, (side, _) in placed.sides.items():
            rows_on[int(known.side[row])] -= 1
            rows_on[side] += 1
        made = {anchor for row, (_, anchor) in placed.sides.items() if self.synthetic[row - self.first_new]}

        def is_free(row: int) -> bool:
            return row >= self.first_new and row not in self.anchors and row not in made

        fill_empty_sides(placed, rows_on, is_free, lambda row: int(known.rows["key"][row]))

    def _take_out(self, row: int, by: int, reason: str) -> None:
        """Drops a row that makes way for another; one of an earlier batch by a change that this batch makes."""
        if row >= self.first_new:
            self._drop(row, reason, self._id(by))
        else:
            number = self.known.rows[row]
            change = Change(
                int(number["batch"]), int(number["index"]), self._id(by), reason, SIDES[int(number["side"])]
            )
            self.changes.setdefault(row, change)
            self.known.take_out(row)


def _own_side(split: str, use: str, is_synthetic: bool) -> int:
    """Where a row stands if no other says otherwise."""
    if use == "golden":
        return GOLDEN
    if use == "benchmark":
        return BENCHMARK
    return TRAIN if is_synthetic else SIDES.index(split)
