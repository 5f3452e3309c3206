"""Decides on a batch's rows, given all rows before: duplicates, near-duplicates, sides, overlap. Pure but for `Texts`.

    1  a row that is to be dropped for itself is (filters.py)
    2  a duplicate of an earlier row is dropped
    3  a near-duplicate takes the earlier row's side, or is dropped; one near rows of two sides is dropped
    4  a training row that shares a passage with a held-out row is dropped, also where it came in an earlier batch

Rows come in the order of their batches, so that one run over all of them decides as runs over one after another do.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tasks.curate.filters import NOTHING_LEFT
from tasks.curate.known import (
    BENCHMARK,
    GOLDEN,
    NOWHERE,
    PROTECTED,
    SIDES,
    TRAIN,
    Known,
)
from tasks.curate.near import candidate_pairs, leaders_of_duplicates, similarities
from tasks.curate.overlap import candidate_overlaps, share_a_passage
from tasks.curate.settings import CurateSettings
from tasks.curate.sketch_file import Indices, Sketch

Texts = Callable[[Known, Indices], list[tuple[str, str, str]]]
"""Rows, and places among them → their input, output and passage texts, as curate has cleaned them."""


@dataclass(frozen=True)
class Change:
    """An earlier row that this batch takes out of training."""

    batch: int
    """Place of its batch in the order of batches."""
    index: int
    """Its place in the batch."""
    by: str
    """Id of the held-out row that it overlaps."""


@dataclass
class Decided:
    """What becomes of a batch's rows, a value each."""

    reason: list[str]
    """Why it was dropped, or ""."""
    field: list[str]
    """The field at fault."""
    value: list[str]
    """What it was dropped for: the id of another row, or the offending text."""
    side: npt.NDArray[np.int8]
    """Place in SIDES."""
    leader: list[str]
    """The id of the earlier row whose side it took, or ""."""
    changes: list[Change]


def decide(
    known: Known,
    sketch: Sketch,
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
        released: (rows,) accepted by a person: no filter drops them.
        is_ghost: (rows,) forgotten rows: others may follow them, they themselves are gone.
        texts: how the text of some rows is found.
        pinned: (rows,) the split that a row stays on, as the row that it took it from was erased; "" for most.
    """
    return _Fold(known, sketch, settings, released, np.asarray(is_ghost, np.bool_), texts, pinned).run()


class _Fold:
    def __init__(
        self,
        known: Known,
        sketch: Sketch,
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
        for place, split in enumerate(pinned):
            if split:
                sides[place] = SIDES.index(split)
        sides = [NOWHERE if reason else side for side, reason in zip(sides, self.reason, strict=True)]
        self.first_new = known.append(sketch, sides, is_ghost)
        self.changes: dict[int, Change] = {}

    def run(self) -> Decided:
        self._drop_duplicates()
        if self.settings.near_duplicates != "off":
            self._follow_near_duplicates()
        if self.settings.decontaminate:
            self._drop_overlaps()
        self.known.index_rows([self.sketch])
        side = self.known.side[self.first_new :].copy()
        return Decided(self.reason, self.field, self.value, side, self.leader, list(self.changes.values()))

    def _drop(self, row: int, reason: str, value: str) -> None:
        self.reason[row - self.first_new] = reason
        self.field[row - self.first_new] = "input"
        self.value[row - self.first_new] = value
        self.known.side[row] = NOWHERE

    def _id(self, row: int) -> str:
        return self.known.row_id(row)

    def _drop_duplicates(self) -> None:
        leaders = leaders_of_duplicates(self.known, self.first_new)
        for place in np.flatnonzero(leaders >= 0):
            leader = int(leaders[place])
            if self.known.side[self.first_new + place] in PROTECTED and self.known.side[leader] == TRAIN:
                self._take_out(leader, self.first_new + int(place))  # the held-out copy stays
            else:
                self._drop(self.first_new + int(place), "duplicate", self._id(leader))

    def _follow_near_duplicates(self) -> None:
        pairs = candidate_pairs(self.known, self.first_new, self.sketch.bands)
        if not len(pairs):
            return
        rows = np.unique(pairs)
        texts = self.texts(self.known, rows)
        least = self.settings.near_duplicate_threshold
        pairs = pairs[similarities(pairs, rows, [text for text, _, _ in texts]) >= least]
        if not len(pairs):
            return
        also_answers = similarities(pairs, rows, [output for _, output, _ in texts]) >= least
        leaders: dict[int, list[tuple[int, bool]]] = defaultdict(list)
        for (leader, row), is_same in zip(pairs.tolist(), also_answers.tolist(), strict=True):
            leaders[row].append((leader, is_same))
        for row in sorted(leaders):
            self._follow(row, [(r, s) for r, s in leaders[row] if self._leads(r)])

    def _leads(self, row: int) -> bool:
        """Do others go by it? A golden or benchmark row that is gone guards nothing any more."""
        side = self.known.side[row]
        return bool(side != NOWHERE and not (self.known.is_ghost[row] and side in PROTECTED))

    def _follow(self, row: int, leaders: list[tuple[int, bool]]) -> None:
        """Puts a row on the side of those that it resembles, or drops it."""
        known = self.known
        if known.side[row] == NOWHERE or not leaders:
            return
        if known.side[row] in PROTECTED:
            for leader, _ in leaders:
                if known.side[leader] == TRAIN and not known.is_ghost[row]:
                    self._take_out(leader, row)
            return
        first = leaders[0][0]
        sides = {int(known.side[leader]) for leader, _ in leaders}
        same = [leader for leader, is_same in leaders if is_same and not known.is_ghost[leader]]
        is_free = bool(self.released[row - self.first_new])
        if sides & set(PROTECTED):
            self._drop(row, "contaminated", next(self._id(r) for r, _ in leaders if known.side[r] in PROTECTED))
        elif len(sides) > 1:
            self._drop(row, "bridges_splits", " ".join(self._id(leader) for leader, _ in leaders))
        elif same and self.settings.near_duplicates == "drop" and not is_free:
            self._drop(row, "near_duplicate", self._id(same[0]))
        elif self.synthetic[row - self.first_new] and sides != {TRAIN}:
            self._drop(row, "contaminated", self._id(first))  # made data are never tested on
        else:
            known.side[row] = sides.pop()
            self.leader[row - self.first_new] = self._id(first)

    def _drop_overlaps(self) -> None:
        most = self.settings.common_passage_rows
        pairs = candidate_overlaps(self.known, self.first_new, self.sketch, most)
        if not len(pairs):
            return
        rows = np.unique(pairs)
        is_hit = share_a_passage(pairs, rows, [passage for _, _, passage in self.texts(self.known, rows)])
        for trained, held in pairs[is_hit].tolist():
            if self.known.side[trained] != NOWHERE:
                self._take_out(trained, held)

    def _take_out(self, trained: int, held: int) -> None:
        """A training row that overlaps a held-out one is dropped; an earlier batch's, by a change that this batch makes."""
        if trained >= self.first_new:
            self._drop(trained, "contaminated", self._id(held))
        else:
            place = self.known.rows[trained]
            self.changes.setdefault(trained, Change(int(place["batch"]), int(place["index"]), by=self._id(held)))
            self.known.take_out(trained)


def _own_side(split: str, use: str, is_synthetic: bool) -> int:
    """Where a row stands if no other says otherwise."""
    if use == "golden":
        return GOLDEN
    if use == "benchmark":
        return BENCHMARK
    return TRAIN if is_synthetic else SIDES.index(split)
