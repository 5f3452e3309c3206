"""Greedy decoding with continuous batching: a finished row leaves the batch, and the next one enters it.

All tokens of a prompt but the last are computed at once, without logits; those that the prompt shares with a row in the batch are
copied from it. Then each step computes one token of every row. No result depends on the rows that are computed together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from tasks.inference.engine import LogitsNotFinite
from tasks.inference.slots import ROW_TILE, SLOTS, SlotCache, tiles


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
        is_exhausted = False
        with torch.inference_mode():
            while True:
                while not is_exhausted and len(self.active) < self.rows:
                    index = take()
                    if index is None:
                        is_exhausted = True
                    else:
                        self.admit(index, list(prompts[index]), max_new_tokens)
                if not self.active:
                    return
                self._step(emit)

    def admit(self, index: int, prompt: list[int], max_new_tokens: int) -> None:
        """Adds a row: computes all tokens of its prompt but the last, or copies them."""
        slot, end = len(self.active), len(prompt) - 1
        start = self._copy_prefix(prompt[:-1], slot)
        if start < end:
            self._compute(prompt[:-1], slot, start)
        limit = min(len(prompt) + max_new_tokens, self.last_position + 1)
        self.active.append(_Row(index, prompt, len(prompt), limit))

    def _copy_prefix(self, tokens: list[int], slot: int) -> int:
        """Copies the longest prefix that another row has in the cache; returns its length."""
        shared, source = max(
            ((_shared(tokens, row.tokens[:-1]), number) for number, row in enumerate(self.active)), default=(0, 0)
        )
        if shared:
            self.cache.copy(source, slot, shared)
            self.copied_tokens += shared
        return shared

    def _compute(self, tokens: list[int], slot: int, start: int) -> None:
        count = len(tokens) - start
        padded = min(tiles(count, ROW_TILE), self.cache.width - start)
        self.cache.write_prompt(slot, start, start + padded)
        device = self.model.device
        ids = torch.tensor([tokens[start:] + [0] * (padded - count)], device=device)
        positions = torch.arange(start, start + padded, device=device)
        mask = _mask(positions, self.cache.keys_read)[None, None]
        body = getattr(self.model, self.model.base_model_prefix)
        positions = positions.clamp(max=self.last_position)
        body(input_ids=ids, position_ids=positions[None], attention_mask=mask, cache=self.cache, use_cache=True)

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
        ids = torch.tensor([row.tokens[-1] for row in self.active] + padding, device=device)
        places = [len(row.tokens) - 1 for row in self.active] + padding
        positions = torch.tensor(places, device=device)
        self.cache.write_tokens(positions, max(places))
        mask = _mask(positions, self.cache.keys_read)[:, None, None]
        outputs = self.model(
            input_ids=ids[:, None],
            position_ids=positions[:, None],
            attention_mask=mask,
            cache=self.cache,
            use_cache=True,
        )
        self.steps += 1
        logits: torch.Tensor = outputs.logits[:count, -1]
        return logits

    def _remove(self, slot: int) -> None:
        """Frees a slot: the last row moves into it."""
        last = self.active.pop()
        if slot < len(self.active):
            self.cache.copy(len(self.active), slot, len(last.tokens) - 1)
            self.active[slot] = last


def _mask(positions: torch.Tensor, keys: int) -> torch.Tensor:
    """[positions, keys]: 0 for the keys up to a position, -inf for later ones."""
    later = torch.arange(keys, device=positions.device) > positions[:, None]
    return torch.zeros(later.shape, device=positions.device).masked_fill_(later, float("-inf"))


def _penalise(logits: torch.Tensor, rows: Sequence[_Row], penalty: float) -> None:
    """As transformers' RepetitionPenaltyLogitsProcessor, for each row."""
    for scores, row in zip(logits, rows, strict=True):
        tokens = torch.tensor(row.tokens, device=scores.device)
        seen = scores[tokens]
        scores[tokens] = torch.where(seen < 0, seen * penalty, seen / penalty)


def _shared(tokens: list[int], others: list[int]) -> int:
    """The length of the common prefix."""
    count = min(len(tokens), len(others))
    if tokens[:count] == others[:count]:
        return count
    return next(index for index in range(count) if tokens[index] != others[index])


@contextmanager
def use_slots(model: Any) -> Iterator[None]:
    """Lets the model compute its attention from a SlotCache."""
    before = model.config._attn_implementation
    model.config._attn_implementation = SLOTS
    try:
        yield
    finally:
        model.config._attn_implementation = before
