"""Continuous batching of requests: rows join and leave a running batch, and each has its own sampling and end.

decoder = OnlineDecoder(model, rows=16, positions=2048)
decoder.add(rows)
while decoder.is_busy:
    decoder.tick()      # a part of the waiting prompts, and the next token of every row

A greedy answer has the tokens of EmbeddedEngine, whatever else is in the batch (docs/decisions/0023-generation.md).
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable
from typing import Any

import torch

from tasks.inference.decoder import SlotDecoder, penalise, shared_tokens
from tasks.inference.embedded import bytes_of_token, cache_room
from tasks.inference.slots import LEAST_TOKENS
from tasks.serve.engine.online_row import OnlineRow
from tasks.serve.engine.request import EngineFailed, RequestRejected

PROMPT_TOKENS_OF_TICK = 512
"""Tokens of prompts that are computed between two steps of the running rows. A longer prompt is computed in parts."""
FIRST_WIDTH = 512
"""Tokens of a row at the start. The cache grows with the longest row."""
SPARE_WIDTH = 64
NOT_FINITE = "the model computed NaN or infinity"


class OnlineDecoder(SlotDecoder):
    """Decodes the rows of requests with one model, within `use_slots`.

    Args:
        rows: rows at once, as far as their keys and values fit into `room`.
        room: bytes for keys and values; None: as in evaluation.
    """

    active: list[OnlineRow]  # type: ignore[assignment]

    def __init__(self, model: Any, rows: int, positions: int | None = None, room: int | None = None) -> None:
        penalty = model.generation_config.repetition_penalty or 1.0
        self.longest = positions or 1 << 20
        width = min(FIRST_WIDTH, self.longest)
        super().__init__(model, [], rows, width, positions, penalty)
        self._room = (cache_room(model) if room is None else room) // bytes_of_token(model)
        """Tokens of all rows."""
        self.waiting: deque[OnlineRow] = deque()
        self.staged: OnlineRow | None = None
        """The row whose prompt is computed in parts, in the last slot."""
        self.staged_tokens = 0
        self._order = itertools.count()
        self._set_width(width)

    @property
    def is_busy(self) -> bool:
        return bool(self.active or self.waiting or self.staged)

    def add(self, rows: Iterable[OnlineRow]) -> None:
        for row in rows:
            row.limit, row.order = min(row.limit, self.last_position + 1), next(self._order)
            self.waiting.append(row)

    def cancel(self, key: str) -> None:
        """Removes the rows of a request: their slots are free at once."""
        self.waiting = deque(row for row in self.waiting if row.key != key)
        if self.staged is not None and self.staged.key == key:
            self.staged = None
        with torch.inference_mode():
            for slot in reversed(range(len(self.active))):
                if self.active[slot].key == key:
                    self._remove(slot)

    def fail_all(self, reason: str) -> None:
        """Ends every row with an error, after a failed forward pass."""
        rows = [*self.active, *([self.staged] if self.staged else []), *self.waiting]
        self.active, self.staged, self.waiting = [], None, deque()
        self.cache.states.clear()
        for row in rows:
            row.fail(reason)

    def tick(self) -> None:
        """Computes a part of the waiting prompts, then the next token of every row whose prompt is complete."""
        with torch.inference_mode():
            self._admit_waiting()
            if self.active:
                self._widen(max(len(row.tokens) for row in self.active), len(self.active))
                self._step_rows()
            if not self.is_busy and self.width > FIRST_WIDTH:
                self.cache.states.clear()
                self._set_width(FIRST_WIDTH)

    def _admit_waiting(self) -> None:
        budget = PROMPT_TOKENS_OF_TICK
        if self.staged is not None:
            budget -= self._continue_staged(self.staged, budget)
        batch: list[OnlineRow] = []
        while self.staged is None and self.waiting and budget > 0:
            row = self.waiting[0]
            if not self._has_room(row, len(batch)):
                break
            shared = max((shared_tokens(row, other) for other in (*self.active, *batch)), default=0)
            tokens = len(row.tokens) - 1 - shared
            if tokens <= budget:
                batch.append(self.waiting.popleft())
                budget -= tokens
            elif budget == PROMPT_TOKENS_OF_TICK:
                self._stage(self.waiting.popleft())
                break
            else:
                break
        self.admit_rows(batch)

    def _stage(self, row: OnlineRow) -> None:
        """Begins to compute a long prompt in parts."""
        lengths = [(shared_tokens(row, other), slot) for slot, other in enumerate(self.active)]
        shared, source = max(lengths, default=(0, 0))
        if shared:
            self.cache.copy(source, self._staging_slot, shared)
            self.copied_tokens += shared
        self.staged, self.staged_tokens = row, shared
        self._continue_staged(row, PROMPT_TOKENS_OF_TICK)

    def _continue_staged(self, row: OnlineRow, budget: int) -> int:
        """Computes the next part of the prompt. Returns the number of its tokens."""
        start, end = self.staged_tokens, len(row.tokens) - 1
        stop = end if end - start <= budget else start + budget
        if stop > start:
            self._compute([(self._staging_slot, start, row.tokens[start:stop])])
        self.staged_tokens = stop
        if stop == end:
            self.cache.copy(self._staging_slot, len(self.active), end)
            self.active.append(row)
            self.staged = None
        return stop - start

    def _step_rows(self) -> None:
        """Adds the next token to every row. A row whose logits are not finite fails alone."""
        logits = self.logits()
        log_probs = [row.log_probabilities(logits[slot]) for slot, row in enumerate(self.active)]
        if self.repetition_penalty != 1.0:
            penalise(logits, self.active, self.repetition_penalty)
        best, greedy = logits.max(dim=-1)
        finite, tokens = torch.isfinite(best).tolist(), greedy.tolist()
        for slot in reversed(range(len(self.active))):
            row = self.active[slot]
            if not finite[slot]:
                self.cache.clear(slot)
                self.cache.clear(self._staging_slot)
                row.fail(NOT_FINITE)
                self._remove(slot)
                continue
            try:
                token = tokens[slot] if row.chooser.takes_best else row.chooser.choose(logits[slot])
                is_done = row.take(token, log_probs[slot])
            except (EngineFailed, RequestRejected) as error:
                row.sink(error)
                is_done = True
            if is_done:
                self._remove(slot)

    @property
    def _staging_slot(self) -> int:
        return self.cache.slots - 1

    def _set_width(self, width: int) -> None:
        """Sets the longest row, and with it the number of rows that fit."""
        self.width, self.capacity = width, self._rows_of(width)
        self.cache.resize(max(self.capacity, LEAST_TOKENS) + 1, width)

    def _rows_of(self, width: int) -> int:
        """How many rows of this width fit, beside that for prompts in parts."""
        return max(1, min(self.rows, self._room // (width + 1) - 1))

    def _has_room(self, row: OnlineRow, joining: int) -> bool:
        """Is there a slot for a row? Running rows are not sent away for it."""
        running = len(self.active) + joining
        width = max(self.width, min(len(row.tokens) + 1, self.longest))
        if running >= self._rows_of(width):
            return False
        self._widen(width, running + 1)
        return True

    def _widen(self, needed: int, rows: int = 1) -> None:
        """Lets rows be as long as `needed`. Where fewer than `rows` fit then, the last ones wait until others have ended."""
        if needed <= self.width:
            return
        widths = [min(width, self.longest) for width in (2 * self.width, needed + SPARE_WIDTH) if width > needed]
        width = next((width for width in widths if self._rows_of(width) >= rows), needed)
        if self.staged is not None:
            self.waiting.appendleft(self.staged)
            self.staged = None
        while len(self.active) > self._rows_of(width):
            newest = max(range(len(self.active)), key=lambda slot: self.active[slot].order)
            self.waiting.appendleft(self.active[newest])
            self._remove(newest)
        self._set_width(width)
