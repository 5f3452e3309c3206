"""Greedy decoding with continuous batching: a finished row leaves the batch, and the next one enters it.

All tokens of a prompt but the last are computed without logits, those of several new rows at once; a prefix that a row shares with
another one is copied from it. Then each step computes one token of every row. In both the model gets the tokens of all rows one
after the other, as one row without padding; only attention knows the rows. No result depends on the rows computed together.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.inference.engine import LogitsNotFinite
from tasks.inference.slots import LEAST_TOKENS, QUERY_TILE, Layout, SlotCache, tiles

PROMPT_TOKENS_AT_ONCE = 512
"""Tokens of prompts in one forward pass; a longer prompt is one pass. With the padding of attention, at most twice as many."""
ROWS_OF_SPAN = 8
"""Rows of a step whose attention is computed together, with the keys of the longest of them."""
REFILL_SHARE = 8
"""New rows enter when an eighth of the rows has left: the tokens of several prompts take less time together."""


_Job = tuple[int, int, list[int]]
"""Slot, position and tokens of a part of a prompt."""


@dataclass
class Row:
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
        self.active: list[Row] = []
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
        self.admit_rows([Row(index, tokens, len(tokens), len(tokens) + max_new_tokens) for index, tokens in prompts])

    def admit_rows(self, rows: Sequence[Row]) -> None:
        """Adds rows with limits of their own. A row's tokens are extended in place."""
        for row in rows:
            row.limit = min(row.limit, self.last_position + 1)
        while rows:
            chosen = self._without_common_prefix(rows)
            self._compute_prompts([rows[number] for number in chosen])
            rows = [row for number, row in enumerate(rows) if number not in chosen]

    def _without_common_prefix(self, rows: Sequence[Row]) -> list[int]:
        """The rows to compute next: not those that share more with one of them than with a row in the batch."""
        chosen: list[int] = []
        for number, row in enumerate(rows):
            copied = max((shared_tokens(row, other) for other in self.active), default=0)
            if all(shared_tokens(row, rows[other]) < copied + QUERY_TILE for other in chosen):
                chosen.append(number)
        return chosen

    def _compute_prompts(self, rows: Sequence[Row]) -> None:
        sources = list(enumerate(self.active))
        jobs: list[_Job] = []
        for row in rows:
            slot = len(self.active)
            start, source = max(((shared_tokens(row, other), number) for number, other in sources), default=(0, 0))
            if start:
                self.cache.copy(source, slot, start)
                self.copied_tokens += start
            self.active.append(row)
            if start < len(row.tokens) - 1:
                jobs.append((slot, start, row.tokens[start:-1]))
        jobs.sort(key=lambda job: -len(job[2]))
        while jobs:
            count = _jobs_at_once(jobs)
            self._compute(jobs[:count])
            jobs = jobs[count:]

    def _compute(self, jobs: Sequence[_Job]) -> None:
        """Computes keys and values of (slot, start, tokens), the longest first. Only attention is padded to one length."""
        device, width = self.model.device, tiles(len(jobs[0][2]), QUERY_TILE)
        slots = torch.tensor([slot for slot, _, _ in jobs], device=device)
        starts = torch.tensor([start for _, start, _ in jobs], device=device)
        lengths = torch.tensor([len(tokens) for _, _, tokens in jobs], device=device)
        places = torch.arange(width, device=device)
        is_token = places < lengths[:, None]
        queries = starts[:, None] + places
        tokens = [token for _, _, tokens in jobs for token in tokens]
        padding = max(0, LEAST_TOKENS - len(tokens))
        layout = Layout.of(is_token, padding)
        positions = queries[is_token]
        # padding is written to the last position, which no row has
        written = torch.cat([positions, positions.new_full((padding,), self.cache.width - 1)])
        rows = torch.cat([slots.repeat_interleave(lengths), slots[:1].expand(padding)])
        self.cache.write(rows, written, slots, max(start + len(tokens) - 1 for _, start, tokens in jobs))
        body = getattr(self.model, self.model.base_model_prefix)
        ids = torch.tensor(tokens + [0] * padding, device=device)
        body(**self._inputs(ids, written, queries), slot_layout=layout)

    def _inputs(self, ids: torch.Tensor, positions: torch.Tensor, queries: torch.Tensor) -> dict[str, Any]:
        """Arguments of the model for tokens of any rows one after the other.

        Args:
            queries: the positions of the queries that attention computes for each row, [rows, queries].
        """
        keys = torch.arange(self.cache.keys_read, device=positions.device)
        later = keys > queries[:, None, :, None]
        mask = torch.zeros(later.shape, device=positions.device).masked_fill_(later, float("-inf"))
        return {
            "input_ids": ids[None],
            "position_ids": positions.clamp(max=self.last_position)[None],
            "attention_mask": mask,
            "cache": self.cache,
            "use_cache": True,
        }

    def _step(self, emit: Callable[[int, list[int]], None]) -> None:
        """Adds the next token to every row."""
        logits = self.logits()
        if self.repetition_penalty != 1.0:
            penalise(logits, self.active, self.repetition_penalty)
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
        padding = [0] * (LEAST_TOKENS - count)  # in slots that no row has
        ids = torch.tensor([row.tokens[-1] for row in self.active] + padding, device=device)
        places = [len(row.tokens) - 1 for row in self.active] + padding
        positions = torch.tensor(places, device=device)
        self.cache.write(torch.arange(len(places), device=device), positions, slice(0, len(places)), max(places))
        outputs = self.model(**self._inputs(ids, positions, positions[:, None]), slot_spans=self._spans(places))
        self.steps += 1
        logits: torch.Tensor = outputs.logits[0, :count]
        return logits

    def _spans(self, places: Sequence[int]) -> list[tuple[slice, int]]:
        """Groups of rows, and the keys that attention reads for each. On a GPU one group: it would wait for more kernels."""
        size = ROWS_OF_SPAN if self.model.device.type == "cpu" else len(places)
        groups = [slice(first, first + size) for first in range(0, len(places), size)]
        return [(group, self.cache.keys_of(max(places[group]))) for group in groups]

    def _remove(self, slot: int) -> None:
        """Frees a slot: the last row moves into it."""
        last = self.active.pop()
        if slot < len(self.active):
            self.cache.copy(len(self.active), slot, len(last.tokens) - 1)
            self.active[slot] = last


def _jobs_at_once(jobs: Sequence[_Job]) -> int:
    """How many of the jobs, longest first, one forward pass computes: at least one."""
    width = tiles(len(jobs[0][2]), QUERY_TILE)
    sums = itertools.accumulate(len(tokens) for _, _, tokens in jobs)
    fit = sum(total <= PROMPT_TOKENS_AT_ONCE for total in sums)
    return max(1, min(fit, 2 * PROMPT_TOKENS_AT_ONCE // width))


def penalise(logits: torch.Tensor, rows: Sequence[Row], penalty: float) -> None:
    """As transformers' RepetitionPenaltyLogitsProcessor, for each row."""
    for scores, row in zip(logits, rows, strict=True):
        tokens = torch.tensor(row.tokens, device=scores.device)
        seen = scores[tokens]
        scores[tokens] = torch.where(seen < 0, seen * penalty, seen / penalty)


def shared_tokens(row: Row, other: Row) -> int:
    """The length of the common prefix, without the last token of each: that one is not in the cache."""
    count = min(len(row.tokens), len(other.tokens)) - 1
    if row.tokens[:count] == other.tokens[:count]:
        return count
    return next(index for index in range(count) if row.tokens[index] != other.tokens[index])
