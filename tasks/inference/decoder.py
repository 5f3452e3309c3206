"""Greedy decoding with continuous batching: a finished row leaves the batch, and the next one enters it.

All tokens of a prompt but the last are computed without logits, those of several new rows at once; a prefix that a row shares with
another one is copied from it. Then each step computes one token of every row. No result depends on the rows that are computed
together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tasks.inference.engine import LogitsNotFinite
from tasks.inference.slots import ROW_TILE, SLOTS, SlotCache, tiles

PROMPT_TOKENS_AT_ONCE = 512
"""Tokens of prompts in one forward pass, with padding; a longer prompt is one pass."""
REFILL_SHARE = 8
"""New rows enter when an eighth of the rows has left: the tokens of several prompts take less time together."""


@dataclass
class _Row:
    """A row in the batch."""

    index: int
    tokens: list[int]
    """Of the prompt and the answer so far; all but the last are in the cache."""
    prompt_tokens: int
    limit: int
    """The number of tokens at which it is full."""

    @property
    def answer(self) -> list[int]:
        return self.tokens[self.prompt_tokens :]


class SlotDecoder:
    """Decodes rows with one model, within `use_slots`.

    Args:
        model: a causal LM of transformers, without an adapter around it.
        ends: the tokens at which an answer ends.
        rows: rows at once.
        width: the greatest number of tokens of a prompt and its answer.
        positions: the context of the model; None: no limit.
        repetition_penalty: as in transformers.
    """

    def __init__(
        self,
        model: Any,
        ends: Sequence[int],
        rows: int,
        width: int,
        positions: int | None = None,
        repetition_penalty: float = 1.0,
    ) -> None:
        self.model, self.ends, self.rows = model, frozenset(ends), rows
        self.last_position = (positions or 1 << 60) - 1
        self.repetition_penalty = repetition_penalty
        self.cache = SlotCache(rows, width)
        self.active: list[_Row] = []
        self.copied_tokens = self.steps = 0

    def run(
        self,
        prompts: Sequence[Sequence[int]],
        max_new_tokens: int,
        take: Callable[[], int | None],
        emit: Callable[[int, list[int]], None],
    ) -> None:
        """Decodes the rows whose indices `take` returns, until it returns None. Calls `emit` with each answer's tokens.

        Raises:
            LogitsNotFinite: the model computes NaN.
        """
        with torch.inference_mode():
            while True:
                free = self.rows - len(self.active)
                if not self.active or free >= max(1, self.rows // REFILL_SHARE):
                    indices = itertools.islice(iter(take, None), free)
                    self.admit([(index, list(prompts[index])) for index in indices], max_new_tokens)
                if not self.active:
                    return
                self._step(emit)

    def admit(self, prompts: Sequence[tuple[int, list[int]]], max_new_tokens: int) -> None:
        """Adds rows, with their indices: computes all tokens of their prompts but the last, or copies them."""
        rows = [
            _Row(index, tokens, len(tokens), min(len(tokens) + max_new_tokens, self.last_position + 1))
            for index, tokens in prompts
        ]
        while rows:
            chosen = self._without_common_prefix(rows)
            self._compute_prompts([rows[number] for number in chosen])
            rows = [row for number, row in enumerate(rows) if number not in chosen]

    def _without_common_prefix(self, rows: Sequence[_Row]) -> list[int]:
        """The rows to compute next: not those that share more with one of them than with a row in the batch."""
        chosen: list[int] = []
        for number, row in enumerate(rows):
            copied = max((_shared(row, other) for other in self.active), default=0)
            if all(_shared(row, rows[other]) < copied + ROW_TILE for other in chosen):
                chosen.append(number)
        return chosen

    def _compute_prompts(self, rows: Sequence[_Row]) -> None:
        sources = list(enumerate(self.active))
        jobs: list[tuple[int, int, list[int]]] = []
        for row in rows:
            slot = len(self.active)
            start, source = max(((_shared(row, other), number) for number, other in sources), default=(0, 0))
            if start:
                self.cache.copy(source, slot, start)
                self.copied_tokens += start
            self.active.append(row)
            if start < len(row.tokens) - 1:
                jobs.append((slot, start, row.tokens[start:-1]))
        jobs.sort(key=lambda job: -len(job[2]))
        while jobs:
            count = max(1, PROMPT_TOKENS_AT_ONCE // tiles(len(jobs[0][2]), ROW_TILE))
            self._compute(jobs[:count])
            jobs = jobs[count:]

    def _compute(self, jobs: Sequence[tuple[int, int, list[int]]]) -> None:
        """Computes keys and values of (slot, start, tokens), the longest first."""
        device, count = self.model.device, tiles(len(jobs[0][2]), ROW_TILE)
        ids = torch.tensor([tokens + [0] * (count - len(tokens)) for _, _, tokens in jobs], device=device)
        starts = torch.tensor([start for _, start, _ in jobs], device=device)
        positions = starts[:, None] + torch.arange(count, device=device)
        slots = torch.tensor([slot for slot, _, _ in jobs], device=device)
        self.cache.write(slots, positions, max(start + len(tokens) - 1 for _, start, tokens in jobs))
        body = getattr(self.model, self.model.base_model_prefix)
        body(**self._inputs(ids, positions))

    def _inputs(self, ids: torch.Tensor, positions: torch.Tensor) -> dict[str, Any]:
        keys = torch.arange(self.cache.keys_read, device=positions.device)
        later = keys > positions[:, None, :, None]
        mask = torch.zeros(later.shape, device=positions.device).masked_fill_(later, float("-inf"))
        return {
            "input_ids": ids,
            "position_ids": positions.clamp(max=self.last_position),
            "attention_mask": mask,
            "cache": self.cache,
            "use_cache": True,
        }

    def _step(self, emit: Callable[[int, list[int]], None]) -> None:
        """Adds the next token to every row."""
        logits = self.logits()
        if self.repetition_penalty != 1.0:
            _penalise(logits, self.active, self.repetition_penalty)
        best, tokens = logits.max(dim=-1)
        if not bool(torch.isfinite(best).all()):
            raise LogitsNotFinite
        for row, token in zip(self.active, tokens.tolist(), strict=True):
            row.tokens.append(token)
        for slot in reversed(range(len(self.active))):
            row = self.active[slot]
            if row.tokens[-1] in self.ends or len(row.tokens) >= row.limit:
                self._remove(slot)
                emit(row.index, row.answer)

    def logits(self) -> torch.Tensor:
        """Computes the last token of every row: [rows, vocabulary]."""
        count, device = len(self.active), self.model.device
        padding = [0] * (tiles(count, ROW_TILE) - count)
        ids = torch.tensor([row.tokens[-1] for row in self.active] + padding, device=device)[:, None]
        places = [len(row.tokens) - 1 for row in self.active] + padding
        positions = torch.tensor(places, device=device)[:, None]
        self.cache.write(slice(0, len(places)), positions, max(places))
        outputs = self.model(**self._inputs(ids, positions))
        self.steps += 1
        logits: torch.Tensor = outputs.logits[:count, -1]
        return logits

    def _remove(self, slot: int) -> None:
        """Frees a slot: the last row moves into it."""
        last = self.active.pop()
        if slot < len(self.active):
            self.cache.copy(len(self.active), slot, len(last.tokens) - 1)
            self.active[slot] = last


def _penalise(logits: torch.Tensor, rows: Sequence[_Row], penalty: float) -> None:
    """As transformers' RepetitionPenaltyLogitsProcessor, for each row."""
    for scores, row in zip(logits, rows, strict=True):
        tokens = torch.tensor(row.tokens, device=scores.device)
        seen = scores[tokens]
        scores[tokens] = torch.where(seen < 0, seen * penalty, seen / penalty)


def _shared(row: _Row, other: _Row) -> int:
    """The length of the common prefix, without the last token of each: that one is not in the cache."""
    count = min(len(row.tokens), len(other.tokens)) - 1
    if row.tokens[:count] == other.tokens[:count]:
        return count
    return next(index for index in range(count) if row.tokens[index] != other.tokens[index])


@contextmanager
def use_slots(model: Any) -> Iterator[None]:
    """Lets the model compute its attention from a SlotCache."""
    before = model.config._attn_implementation
    model.config._attn_implementation = SLOTS
    try:
        yield
    finally:
        model.config._attn_implementation = before
