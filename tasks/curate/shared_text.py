"""Rows that share text: a long run of tokens, most of a prompt, or a whole exchange. Pure; a candidate is proved on the texts.

Text that most rows of a source hold is the template of that source, and text that very many rows hold is boilerplate: neither
links rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tasks.curate.index import MOST_ROWS, Entries, are_among, entries_of, hashes_of, is_first, rows_of, sorted_once
from tasks.curate.known import PROTECTED, TRAIN, Known
from tasks.curate.sketch import GRAM_TOKENS, LONG_PASSAGE_TOKENS, PASSAGE_TOKENS, grams_of, prints_of, runs_of
from tasks.curate.sketch_file import Indices, Sketch
from tasks.curate.tokens import Hashes, tokenise

TEMPLATE_SHARE = 0.75
"""A fingerprint that more than this share of a source's rows hold is part of the source's template ..."""
TEMPLATE_ROWS = 8
"""... if at least so many hold it."""
LONG_FACTOR = 5
"""A long passage may stand in so many times as many rows as a short one before it is boilerplate."""
HALF = 0.5
FOUND_TOKENS = 30
"""Of the rows of one batch, every run of this length is found, also one that begins with boilerplate."""
MOST_AFTER_BOILERPLATE = 50_000
"""... if no more rows hold it: all runs of these rows are in memory at once."""
ROWS_AT_ONCE = 10_000
LARGE_SHARE = 0.4
"""What more of all rows hold is a fixed part of their prompts, and no passage ..."""
LEAST_ROWS = 8
"""... if at least so many do."""
LONGEST_FIXED_PART = 80
"""A longer run is a passage, however many rows hold it."""
MOST_COUNTED = 20_000
"""Among more rows, those that hold boilerplate are not counted."""
GUARDED_TOKENS = 64
"""Length of a run that is no template's fixed part, though more than a few rows hold it."""

Pairs = npt.NDArray[np.int64]
Marks = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class RowTexts:
    """A row's text, as curate has cleaned it."""

    input: str
    output: str
    asked: str
    """What the model is given, but for the instruction where there is an input, and for its own turns."""
    answered: str
    """The answer, and the turns of the model before it."""
    exchanges: frozenset[int]


@dataclass(frozen=True)
class Candidates:
    pairs: Pairs
    """(pairs, 2): an earlier row and a later one that share a fingerprint."""
    is_rare: Marks
    """(pairs,): few rows hold it, so that a run need not be long to count."""

    def part(self, start: int, size: int) -> Candidates:
        return Candidates(self.pairs[start : start + size], self.is_rare[start : start + size])

    def chosen(self, are_chosen: Marks) -> Candidates:
        return Candidates(self.pairs[are_chosen], self.is_rare[are_chosen])

    def with_more(self, pairs: Pairs) -> Candidates:
        """With pairs whose run many rows hold."""
        is_rare = np.concatenate([self.is_rare, np.zeros(len(pairs), np.bool_)])
        return Candidates(np.concatenate([self.pairs, pairs]), is_rare)


def candidates(known: Known, first_new: int, sketch: Sketch, common_rows: int, common_share: float) -> _Groups:
    """The fingerprints that link new rows with each other and with earlier ones, and the rows that hold them.

    Args:
        first_new: the number of the first new row; those before are in the index.
        sketch: of the new rows.
        common_rows, common_share: as in CurateSettings.
    """
    total = int(known.is_somewhere(np.arange(len(known))).sum())
    most = max(LONG_FACTOR * common_rows, int(common_share * total))
    entries, boilerplate, common = _of_interest(known, first_new, sketch, most, total)
    prints = hashes_of(entries)
    starts = np.flatnonzero(is_first(prints))
    sizes = np.diff(np.concatenate([starts, [len(prints)]]))
    numbers = np.repeat(np.arange(len(starts)), sizes)
    rows = rows_of(entries)
    boilerplate = np.concatenate([boilerplate, rows[(sizes > most)[numbers] & (rows >= first_new)]])
    fixed = _of_many(np.concatenate([entries, common]), max(LEAST_ROWS, int(LARGE_SHARE * total) + 1))
    groups = _Groups(known, first_new, rows, numbers, sizes, common_rows, most, np.unique(boilerplate), fixed)
    groups.keep((sizes > 1) & (sizes <= most) & ~groups.are_templates())
    return groups


class _Groups:
    """Rows by the fingerprint that they hold, ascending."""

    def __init__(
        self,
        known: Known,
        first_new: int,
        rows: Indices,
        numbers: Indices,
        sizes: Indices,
        common_rows: int,
        most: int,
        boilerplate: Indices,
        fixed: Hashes,
    ) -> None:
        self._known = known
        self._first_new = first_new
        self._rows = rows
        self._numbers = numbers
        self._is_rare = sizes <= common_rows
        self._is_small = sizes <= LONG_FACTOR * common_rows
        self.most = most
        """A run that more rows hold links none."""
        self.boilerplate = boilerplate
        """New rows that hold such a run: what follows it may be shared, and in no fingerprint of its own."""
        self.fixed = fixed
        """Fingerprints that a large share of all rows hold, ascending."""

    def keep(self, is_kept: Marks) -> None:
        """Leaves out the other groups.

        Args:
            is_kept: (groups,).
        """
        chosen = is_kept[self._numbers]
        self._rows, self._numbers = self._rows[chosen], self._numbers[chosen]

    def are_templates(self) -> Marks:
        """(groups,): do most rows of a source hold it?"""
        everything = np.arange(len(self._known))
        sources = self._known.sources(everything[self._known.is_somewhere(everything)])
        in_source = np.bincount(sources) if len(sources) else np.zeros(1, np.int64)
        holders = self._numbers * len(in_source) + self._known.sources(self._rows)
        keys, counts = np.unique(holders, return_counts=True)
        is_template = (counts >= TEMPLATE_ROWS) & (counts > TEMPLATE_SHARE * in_source[keys % len(in_source)])
        found = np.zeros(len(self._is_rare), np.bool_)
        found[keys[is_template] // len(in_source)] = True
        return found

    def between_sides(self) -> tuple[Candidates, Indices]:
        """Pairs of earlier rows that stand on two sides, and the group of each: what they share was let through before."""
        rows, numbers = self._heads()
        sides = self._known.side[rows]
        pairs, groups = [], []
        for distance in range(1, 5):  # a group has a head a side, at most five
            first, second = slice(None, -distance), slice(distance, None)
            is_one = numbers[first] == numbers[second]
            is_guard = [np.isin(sides[each], PROTECTED) for each in (first, second)]
            is_train = (sides[first] == TRAIN) | (sides[second] == TRAIN)
            chosen = is_one & (
                is_train | ~(is_guard[0] | is_guard[1])
            )  # nothing but training is kept from a golden row
            pairs.append(np.sort(np.stack([rows[first][chosen], rows[second][chosen]], 1), axis=1))
            groups.append(numbers[first][chosen])
        both, places = np.concatenate(pairs), np.concatenate(groups)
        return Candidates(both, self._is_rare[places]), places

    def candidates(self) -> Candidates:
        """Each new row with the first earlier row of each side, and with the first new row and the one before it; each golden or
        benchmark row of a group that is not large with all others."""
        is_new = self._rows >= self._first_new
        rows, numbers = self._rows[is_new], self._numbers[is_new]
        starts = is_first(numbers)
        first = rows[np.maximum.accumulate(np.where(starts, np.arange(len(rows)), 0))] if len(rows) else rows
        before = np.concatenate([[0], rows[:-1]]) if len(rows) else rows
        pairs = [np.stack([leader[~starts], rows[~starts]], 1) for leader in (first, before)]
        groups = [numbers[~starts], numbers[~starts]]
        heads, head_numbers = self._heads()
        low, high = np.searchsorted(head_numbers, numbers), np.searchsorted(head_numbers, numbers, side="right")
        for place in range(5):
            has_one = low + place < high
            pairs.append(np.stack([heads[low[has_one] + place], rows[has_one]], 1))
            groups.append(numbers[has_one])
        guarded, guarded_groups = self._guarded()
        pairs.append(guarded)
        groups.append(guarded_groups)
        return _each_once(np.concatenate(pairs), self._is_rare[np.concatenate(groups)])

    def _guarded(self) -> tuple[Pairs, Indices]:
        """Golden and benchmark rows, each with the rows of its group that are neither, one of the two new."""
        is_guard = np.isin(self._known.side[self._rows], PROTECTED)
        guards = np.flatnonzero(is_guard & self._is_small[self._numbers])
        others = np.flatnonzero(~is_guard)
        low, high = (
            np.searchsorted(self._numbers[others], self._numbers[guards], side=side) for side in ("left", "right")
        )
        counts = high - low
        places = others[np.repeat(low - (np.cumsum(counts) - counts), counts) + np.arange(counts.sum())]
        pairs = np.sort(np.stack([np.repeat(self._rows[guards], counts), self._rows[places]], 1), axis=1)
        is_new = pairs[:, 1] >= self._first_new
        return pairs[is_new], self._numbers[places][is_new]

    def _heads(self) -> tuple[Indices, Indices]:
        """The first earlier row of each group on each side, and the groups, ascending."""
        is_old = self._rows < self._first_new
        rows, numbers = self._rows[is_old], self._numbers[is_old]
        keys = numbers * 8 + self._known.side[rows]
        order = np.argsort(keys, kind="stable")
        chosen = order[is_first(keys[order])]
        return rows[chosen], numbers[chosen]

    def drop_groups(self, numbers: Indices) -> None:
        is_kept = np.ones(len(self._is_rare), np.bool_)
        is_kept[numbers] = False
        self.keep(is_kept)


def _each_once(pairs: Pairs, is_rare: Marks) -> Candidates:
    both = np.sort((pairs[:, 0] << 32 | pairs[:, 1]) << 1 | ~is_rare)
    both = both[is_first(both >> 1)]  # the rare one of equal pairs is the first
    return Candidates(np.stack([both >> 33, both >> 1 & 0xFFFFFFFF], 1), both & 1 == 0)


def share_text(
    candidates: Candidates, is_guarded: Marks, rows: Indices, texts: Sequence[RowTexts], fixed: Hashes | None = None
) -> Marks:
    """(pairs,): do the two rows share an exchange, or a run of tokens?

    A run counts from LONG_PASSAGE_TOKENS on, if it is of what is asked in one of the rows, or half of an answer: so a formula at
    the end of two answers does not. Where few rows hold it, it counts from PASSAGE_TOKENS on, if it is half of what is asked.

    Args:
        is_guarded: (pairs,) one of the two is a golden or benchmark row: a run that more than a few rows hold, and is no longer
            than a template may be, is no reason to drop the other.
        rows: the rows that stand in pairs, ascending.
        texts: of each.
        fixed: fingerprints, ascending; a run that holds one of them does not count, unless it is longer than LONGEST_FIXED_PART,
            nor does such an exchange.
    """
    runs = _Runs(texts, fixed)
    fixed_prints = frozenset[int]() if fixed is None else frozenset(fixed.tolist())

    def share(first: int, second: int, is_rare: bool, is_guarded: bool) -> bool:
        if texts[first].exchanges & texts[second].exchanges - fixed_prints:
            return True
        if fixed_prints and not runs.long_of(first).isdisjoint(runs.long_of(second)):
            return True
        length = GUARDED_TOKENS if is_guarded and not is_rare else LONG_PASSAGE_TOKENS
        (asked, answered), (other_asked, other_answered) = runs.of(first, length), runs.of(second, length)
        if not (
            asked.isdisjoint(other_asked) and asked.isdisjoint(other_answered) and answered.isdisjoint(other_asked)
        ):
            return True
        if not answered.isdisjoint(other_answered):
            return runs.are_half(ANSWERED, first, second, length) or runs.are_half(ANSWERED, second, first, length)
        if not is_rare:
            return False
        return runs.are_half(ASKED, first, second) or runs.are_half(ASKED, second, first)

    places = np.searchsorted(rows, candidates.pairs).tolist()
    marks = zip(places, candidates.is_rare.tolist(), is_guarded.tolist(), strict=True)
    return np.array([share(first, second, rare, guarded) for (first, second), rare, guarded in marks], np.bool_)


ASKED, ANSWERED = 0, 1


class _Runs:
    """The runs of tokens of some texts, by the number of the text."""

    def __init__(self, texts: Sequence[RowTexts], fixed: Hashes | None) -> None:
        self._tokens = tokenise([each.asked for each in texts]), tokenise([each.answered for each in texts])
        self._fixed = fixed
        self._known: dict[tuple[int, int], tuple[set[int], set[int]]] = {}

    def of(self, number: int, length: int) -> tuple[set[int], set[int]]:
        """The runs of what is asked, and of what is answered."""
        key = number, length
        if key not in self._known:
            self._known[key] = self._own_runs(ASKED, number, length), self._own_runs(ANSWERED, number, length)
        return self._known[key]

    def long_of(self, number: int) -> set[int]:
        """The runs of what is asked that are too long for a fixed part."""
        key = number, LONGEST_FIXED_PART + 1
        if key not in self._known:
            self._known[key] = set(runs_of(self._tokens[ASKED], *key)), set()
        return self._known[key][ASKED]

    def _own_runs(self, part: int, number: int, length: int) -> set[int]:
        runs = runs_of(self._tokens[part], number, length)
        if self._fixed is None or not len(self._fixed) or not runs:
            return set(runs)
        grams = np.array(runs_of(self._tokens[part], number, GRAM_TOKENS), np.uint64)
        is_fixed = are_among(prints_of(grams).astype(np.uint64), self._fixed)
        before = np.concatenate([[0], np.cumsum(is_fixed)])
        has_fixed = before[length - GRAM_TOKENS + 1 :] > before[: len(runs)]
        return {run for run, has in zip(runs, has_fixed.tolist(), strict=True) if not has}

    def are_half(self, part: int, first: int, second: int, length: int = PASSAGE_TOKENS) -> bool:
        """Does the second text hold, in runs, half of what is asked or answered in the first?"""
        others = self.of(second, length)
        tokens = self._tokens[part]
        covered, until = 0, 0
        for start, run in enumerate(runs_of(tokens, first, length)):
            if run in others[ASKED] or run in others[ANSWERED]:
                covered += start + length - max(start, until)
                until = start + length
        return 0 < covered >= HALF * int(tokens.offsets[first + 1] - tokens.offsets[first])


def links_after_boilerplate(rows: Indices, texts: Callable[[Indices], Sequence[RowTexts]], most: int) -> Pairs:
    """(pairs, 2): rows that share a run of FOUND_TOKENS tokens, each with the first and with the one before it.

    Args:
        rows: ascending.
        texts: of some of them.
        most: a run that more rows hold links none.
    """
    hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    if len(rows) > MOST_AFTER_BOILERPLATE:
        return np.empty((0, 2), np.int64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        some = rows[start : start + ROWS_AT_ONCE]
        runs, numbers = grams_of(tokenise([f"{each.asked}\n{each.answered}" for each in texts(some)]), FOUND_TOKENS)
        hashes.append(runs)
        owners.append(some[numbers])
    runs, holders = np.concatenate(hashes), np.concatenate(owners)
    order = np.lexsort((holders, runs))
    runs, holders = runs[order], holders[order]
    is_once = is_first(runs) | is_first(holders)
    runs, holders = runs[is_once], holders[is_once]
    starts = is_first(runs)
    sizes = np.diff(np.append(np.flatnonzero(starts), len(runs)))
    is_led = ~starts & np.repeat(sizes <= most, sizes)
    first = holders[np.maximum.accumulate(np.where(starts, np.arange(len(holders)), 0))] if len(holders) else holders
    before = np.roll(holders, 1)
    pairs = np.concatenate([np.stack([leader[is_led], holders[is_led]], 1) for leader in (first, before)])
    return _each_once(pairs, np.zeros(len(pairs), np.bool_)).pairs


def _of_many(entries: Entries, least: int) -> Hashes:
    """The fingerprints, ascending, that at least so many rows hold."""
    prints = hashes_of(sorted_once(entries))
    starts = np.flatnonzero(is_first(prints))
    found: Hashes = prints[starts][np.diff(np.append(starts, len(prints))) >= least]
    return found


def _of_interest(
    known: Known, first_new: int, sketch: Sketch, most: int, total: int
) -> tuple[Entries, Indices, Entries]:
    """The fingerprints that stand in a new row with all rows that hold them, each row once a fingerprint; the new rows of those
    fingerprints that are left out, as they stand in more than `most` earlier rows: too many to go through for each batch; and
    these with their rows, unless there are very many."""
    owners = np.repeat(np.arange(first_new, len(known)), np.diff(sketch.offsets()))
    is_there = known.is_somewhere(owners)
    new = sorted_once(entries_of(sketch.prints[is_there], owners[is_there]))
    prints = hashes_of(new)
    old, common = known.by_passage.all_of(prints[is_first(prints)], most=most + known.taken_out)
    is_common = are_among(prints, common) if len(common) else np.zeros(len(prints), np.bool_)
    left_out = new[:0]
    if len(common) and total <= MOST_COUNTED:
        left_out = np.concatenate([known.by_passage.all_of(common, most=MOST_ROWS)[0], new[is_common]])
    return sorted_once(np.concatenate([old, new[~is_common]])), rows_of(new[is_common]), left_out
