"""Verifies that rows share text: a long run of tokens, half of a prompt, or a whole exchange. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tasks.curate.dedup.candidates import Candidates, FixedParts, Marks, Pairs, distinct_candidates
from tasks.curate.dedup.index import Indices, distinct_by_owner, is_first, is_in_sorted
from tasks.curate.dedup.minhash import (
    GRAM_TOKENS,
    LONG_PASSAGE_TOKENS,
    PASSAGE_TOKENS,
    grams_of,
    runs_of,
    to_fingerprints,
)
from tasks.curate.dedup.tokens import Hashes, tokenise

HALF = 0.5
AFTER_BOILERPLATE_TOKENS = 30
"""Among the rows of one batch, every shared run of this length is detected, also one that begins with boilerplate."""
MOST_AFTER_BOILERPLATE = 50_000
"""With more rows than this, such runs are not searched: they would all be in memory at once."""
ROWS_AT_ONCE = 10_000
LONGEST_FIXED_PART = 80
"""A longer run is a passage, however many rows hold it."""
PROTECTED_TOKENS = 64
"""Length from which a run shared with a golden or benchmark row counts although more than a few rows hold it."""


@dataclass(frozen=True)
class RowTexts:
    """A row's cleaned text."""

    input: str
    output: str
    prompt: str
    """The user's turns and the input; the instruction only where there is no input."""
    answer: str
    """The answer, and the model's earlier turns."""
    exchanges: frozenset[int]
    """Hashes of each user turn with its answer (sides/split.py)."""


def share_text(
    candidates: Candidates,
    has_protected: Marks,
    rows: Indices,
    texts: Sequence[RowTexts],
    fixed: FixedParts | None = None,
) -> Marks:
    """(pairs,): do the two rows share an exchange, or a run of tokens?

    A run of LONG_PASSAGE_TOKENS counts if it is in the prompt of one of the rows, or covers half of an answer, so that a closing
    formula of two answers does not count. Where few rows hold it, a run of PASSAGE_TOKENS counts if it covers half of the prompt.

    Args:
        has_protected: (pairs,) one of the two is a golden or benchmark row: then a run that more than a few rows hold counts from
            PROTECTED_TOKENS on only, since a shorter one may be a template.
        rows: the rows of the pairs, ascending.
        texts: the text of each.
        fixed: a run or an exchange that holds one of these does not count, unless the run is longer than LONGEST_FIXED_PART and not
            part of a template.
    """
    fixed = fixed or FixedParts()
    runs_by_protection = {
        protected: _Runs(texts, fixed.of_pairs(protected)) for protected in np.unique(has_protected).tolist()
    }

    def share(first: int, second: int, is_rare: bool, has_protected: bool) -> bool:
        runs = runs_by_protection[has_protected]
        if texts[first].exchanges & texts[second].exchanges - runs.fixed_fingerprints:
            return True
        if runs.fixed_fingerprints and not runs.long_of(first).isdisjoint(runs.long_of(second)):
            return True
        length = PROTECTED_TOKENS if has_protected and not is_rare else LONG_PASSAGE_TOKENS
        (prompt, answer), (other_prompt, other_answer) = runs.of(first, length), runs.of(second, length)
        of_prompts = ((prompt, other_prompt), (prompt, other_answer), (answer, other_prompt))
        if not all(one.isdisjoint(other) for one, other in of_prompts):
            return True
        if not answer.isdisjoint(other_answer):
            return runs.cover_half(ANSWER, first, second, length) or runs.cover_half(ANSWER, second, first, length)
        if not is_rare:
            return False
        return runs.cover_half(PROMPT, first, second) or runs.cover_half(PROMPT, second, first)

    numbers = np.searchsorted(rows, candidates.pairs).tolist()
    arguments = zip(numbers, candidates.is_rare.tolist(), has_protected.tolist(), strict=True)
    return np.array([share(first, second, rare, protected) for (first, second), rare, protected in arguments], np.bool_)


PROMPT, ANSWER = 0, 1


class _Runs:
    """Token runs of some texts, by the number of the text; cached."""

    def __init__(self, texts: Sequence[RowTexts], fixed: FixedParts) -> None:
        self._tokens = tokenise([text.prompt for text in texts]), tokenise([text.answer for text in texts])
        self._fixed = fixed
        self.fixed_fingerprints = frozenset(fixed.fingerprints.tolist())
        self._cache: dict[tuple[int, int], tuple[set[int], set[int]]] = {}

    def of(self, number: int, length: int) -> tuple[set[int], set[int]]:
        """The hashes of the runs of the prompt, and of the answer."""
        key = number, length
        if key not in self._cache:
            prompt, answer = (self._runs_without(part, *key, self._fixed.fingerprints) for part in (PROMPT, ANSWER))
            self._cache[key] = prompt, answer
        return self._cache[key]

    def long_of(self, number: int) -> set[int]:
        """The runs of the prompt that are longer than a fixed part and not part of a template."""
        key = number, LONGEST_FIXED_PART + 1
        if key not in self._cache:
            self._cache[key] = self._runs_without(PROMPT, *key, self._fixed.templates), set()
        return self._cache[key][PROMPT]

    def _runs_without(self, part: int, number: int, length: int, left_out: Hashes) -> set[int]:
        """Args: left_out: fingerprints; a run that holds one is left out."""
        runs = runs_of(self._tokens[part], number, length)
        if not len(left_out) or not runs:
            return set(runs)
        grams = np.array(runs_of(self._tokens[part], number, GRAM_TOKENS), np.uint64)
        is_fixed = is_in_sorted(to_fingerprints(grams).astype(np.uint64), left_out)
        before = np.concatenate([[0], np.cumsum(is_fixed)])
        has_fixed = before[length - GRAM_TOKENS + 1 :] > before[: len(runs)]
        return {run for run, is_excluded in zip(runs, has_fixed.tolist(), strict=True) if not is_excluded}

    def cover_half(self, part: int, first: int, second: int, length: int = PASSAGE_TOKENS) -> bool:
        """Do runs of the second text cover half of the prompt (or answer) of the first?"""
        others = self.of(second, length)
        tokens = self._tokens[part]
        covered, end = 0, 0
        for start, run in enumerate(runs_of(tokens, first, length)):
            if run in others[PROMPT] or run in others[ANSWER]:
                covered += start + length - max(start, end)
                end = start + length
        return 0 < covered >= HALF * int(tokens.offsets[first + 1] - tokens.offsets[first])


def links_after_boilerplate(rows: Indices, texts: Callable[[Indices], Sequence[RowTexts]], most: int) -> Pairs:
    """(pairs, 2): rows that share a run of AFTER_BOILERPLATE_TOKENS, each with the first such row and the one before it.

    Args:
        rows: ascending.
        texts: reads the text of some of them.
        most: a run that more rows hold links no rows.
    """
    run_parts, owner_parts = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    if len(rows) > MOST_AFTER_BOILERPLATE:
        return np.empty((0, 2), np.int64)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        portion = rows[start : start + ROWS_AT_ONCE]
        tokens = tokenise([f"{text.prompt}\n{text.answer}" for text in texts(portion)])
        runs, numbers = grams_of(tokens, AFTER_BOILERPLATE_TOKENS)
        run_parts.append(runs)
        owner_parts.append(portion[numbers])
    runs, owners = distinct_by_owner(np.concatenate(run_parts), np.concatenate(owner_parts))
    starts = is_first(runs)
    sizes = np.diff(np.append(np.flatnonzero(starts), len(runs)))
    follows_another = ~starts & np.repeat(sizes <= most, sizes)
    first = owners[np.maximum.accumulate(np.where(starts, np.arange(len(owners)), 0))] if len(owners) else owners
    before = np.roll(owners, 1)
    pairs = np.concatenate(
        [np.stack([representative[follows_another], owners[follows_another]], 1) for representative in (first, before)]
    )
    return distinct_candidates(pairs, np.zeros(len(pairs), np.bool_)).pairs
