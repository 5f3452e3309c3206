"""Rows that share text: a long run of tokens, most of a prompt, or a whole exchange. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.curate.dedup.index import are_among, is_first
from tasks.curate.dedup.minhash import GRAM_TOKENS, LONG_PASSAGE_TOKENS, PASSAGE_TOKENS, grams_of, prints_of, runs_of
from tasks.curate.dedup.sketch_file import Indices
from tasks.curate.dedup.text_groups import Candidates, FixedParts, Marks, Pairs, each_once
from tasks.curate.dedup.tokens import Hashes, tokenise

HALF = 0.5
FOUND_TOKENS = 30
"""Of the rows of one batch, every run of this length is found, also one that begins with boilerplate."""
MOST_AFTER_BOILERPLATE = 50_000
"""... if no more rows hold it: all runs of these rows are in memory at once."""
ROWS_AT_ONCE = 10_000
LONGEST_FIXED_PART = 80
"""A longer run is a passage, however many rows hold it."""
GUARDED_TOKENS = 64
"""Length of a run that is no template's fixed part, though more than a few rows hold it."""


@dataclass(frozen=True)
class RowTexts:
    """A row's text, as curate has cleaned it."""

    input: str
    output: str
    prompt: str
    """What the model is given, but for the instruction where there is an input, and for its own turns."""
    answer: str
    """The answer, and the turns of the model before it."""
    exchanges: frozenset[int]


def share_text(
    candidates: Candidates, is_guarded: Marks, rows: Indices, texts: Sequence[RowTexts], fixed: FixedParts | None = None
) -> Marks:
    """(pairs,): do the two rows share an exchange, or a run of tokens?

    A run counts from LONG_PASSAGE_TOKENS on, if it is of the prompt in one of the rows, or half of an answer: so a formula at
    the end of two answers does not. Where few rows hold it, it counts from PASSAGE_TOKENS on, if it is half of the prompt.

    Args:
        is_guarded: (pairs,) one of the two is a golden or benchmark row: a run that more than a few rows hold, and is no longer
            than a template may be, is no reason to drop the other.
        rows: the rows that stand in pairs, ascending.
        texts: of each.
        fixed: a run that holds one of these does not count, unless it is longer than LONGEST_FIXED_PART and no template's, nor does
            such an exchange.
    """
    fixed = fixed or FixedParts()
    by_guard = {bool(guarded): fixed.of_pairs(bool(guarded)) for guarded in np.unique(is_guarded)}
    runs_by_guard = {guarded: _Runs(texts, parts) for guarded, parts in by_guard.items()}
    prints_by_guard = {guarded: frozenset(parts.prints.tolist()) for guarded, parts in by_guard.items()}

    def share(first: int, second: int, is_rare: bool, is_guarded: bool) -> bool:
        runs, fixed_prints = runs_by_guard[is_guarded], prints_by_guard[is_guarded]
        if texts[first].exchanges & texts[second].exchanges - fixed_prints:
            return True
        if fixed_prints and not runs.long_of(first).isdisjoint(runs.long_of(second)):
            return True
        length = GUARDED_TOKENS if is_guarded and not is_rare else LONG_PASSAGE_TOKENS
        (prompt, answer), (other_prompt, other_answer) = runs.of(first, length), runs.of(second, length)
        if not (
            prompt.isdisjoint(other_prompt) and prompt.isdisjoint(other_answer) and answer.isdisjoint(other_prompt)
        ):
            return True
        if not answer.isdisjoint(other_answer):
            return runs.are_half(ANSWER, first, second, length) or runs.are_half(ANSWER, second, first, length)
        if not is_rare:
            return False
        return runs.are_half(PROMPT, first, second) or runs.are_half(PROMPT, second, first)

    places = np.searchsorted(rows, candidates.pairs).tolist()
    marks = zip(places, candidates.is_rare.tolist(), is_guarded.tolist(), strict=True)
    return np.array([share(first, second, rare, guarded) for (first, second), rare, guarded in marks], np.bool_)


PROMPT, ANSWER = 0, 1


class _Runs:
    """The runs of tokens of some texts, by the number of the text."""

    def __init__(self, texts: Sequence[RowTexts], fixed: FixedParts) -> None:
        self._tokens = tokenise([each.prompt for each in texts]), tokenise([each.answer for each in texts])
        self._fixed = fixed
        self._known: dict[tuple[int, int], tuple[set[int], set[int]]] = {}

    def of(self, number: int, length: int) -> tuple[set[int], set[int]]:
        """The runs of the prompt, and of the answer."""
        key = number, length
        if key not in self._known:
            prints = self._fixed.prints
            self._known[key] = (
                self._own_runs(PROMPT, number, length, prints),
                self._own_runs(ANSWER, number, length, prints),
            )
        return self._known[key]

    def long_of(self, number: int) -> set[int]:
        """The runs of the prompt that are too long for a fixed part, and no template's."""
        key = number, LONGEST_FIXED_PART + 1
        if key not in self._known:
            self._known[key] = self._own_runs(PROMPT, *key, self._fixed.templates), set()
        return self._known[key][PROMPT]

    def _own_runs(self, part: int, number: int, length: int, left_out: Hashes) -> set[int]:
        """Args: left_out: fingerprints; runs that hold one are left out."""
        runs = runs_of(self._tokens[part], number, length)
        if not len(left_out) or not runs:
            return set(runs)
        grams = np.array(runs_of(self._tokens[part], number, GRAM_TOKENS), np.uint64)
        is_fixed = are_among(prints_of(grams).astype(np.uint64), left_out)
        before = np.concatenate([[0], np.cumsum(is_fixed)])
        has_fixed = before[length - GRAM_TOKENS + 1 :] > before[: len(runs)]
        return {run for run, has in zip(runs, has_fixed.tolist(), strict=True) if not has}

    def are_half(self, part: int, first: int, second: int, length: int = PASSAGE_TOKENS) -> bool:
        """Does the second text hold, in runs, half of the prompt or answer in the first?"""
        others = self.of(second, length)
        tokens = self._tokens[part]
        covered, until = 0, 0
        for start, run in enumerate(runs_of(tokens, first, length)):
            if run in others[PROMPT] or run in others[ANSWER]:
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
        runs, numbers = grams_of(tokenise([f"{each.prompt}\n{each.answer}" for each in texts(some)]), FOUND_TOKENS)
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
    return each_once(pairs, np.zeros(len(pairs), np.bool_)).pairs
