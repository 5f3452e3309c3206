"""Requests one after the other by `generate` of transformers: for models that slots do not support (tasks/inference/support.py).

The same interface as OnlineDecoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import torch

from tasks.inference.batches import GREEDY
from tasks.serve.engine.online_row import OnlineRow
from tasks.serve.engine.request import EngineFailed

NOT_FINITE = "the model computed NaN or infinity"


class SerialDecoder:
    """Decodes one row at a time.

    Args:
        positions: the context of the model; None: no limit.
        between_tokens: called after each token; it may call `add` and `cancel`.
    """

    def __init__(self, model: Any, padding: int, positions: int | None, between_tokens: Callable[[], None]) -> None:
        self.model, self.padding, self.between_tokens = model, padding, between_tokens
        self.longest = positions or 1 << 20
        self.waiting: deque[OnlineRow] = deque()
        self.running: OnlineRow | None = None

    @property
    def is_busy(self) -> bool:
        return bool(self.waiting)

    def add(self, rows: Iterable[OnlineRow]) -> None:
        for row in rows:
            row.limit = min(row.limit, self.longest)
            self.waiting.append(row)

    def cancel(self, key: str) -> None:
        self.waiting = deque(row for row in self.waiting if row.key != key)
        if self.running is not None and self.running.key == key:
            self.running = None

    def fail_all(self, reason: str) -> None:
        rows = [*([self.running] if self.running else []), *self.waiting]
        self.running, self.waiting = None, deque()
        for row in rows:
            row.fail(reason)

    def tick(self) -> None:
        """Decodes one answer."""
        row = self.running = self.waiting.popleft()
        choice = _Choice(row)
        ids = torch.tensor([row.tokens], device=self.model.device)

        def is_done(ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
            is_complete = choice.is_failed or row.take(int(ids[0, -1]), choice.log_probs)
            self.between_tokens()
            return torch.full((1,), is_complete or self.running is not row, device=ids.device)

        with torch.inference_mode():
            self.model.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=row.limit - len(row.tokens),
                pad_token_id=self.padding,
                eos_token_id=None,
                logits_processor=[choice],
                stopping_criteria=[is_done],
                **GREEDY,
            )
        self.running = None


class _Choice:
    """Chooses the next token: `generate` sees a single possible one."""

    def __init__(self, row: OnlineRow) -> None:
        self.row = row
        self.log_probs: torch.Tensor | None = None
        self.is_failed = False

    def __call__(self, ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self.log_probs = self.row.log_probabilities(scores[0])
        best = scores[0].max(dim=-1)
        try:
            if not bool(torch.isfinite(best.values)):
                raise EngineFailed(NOT_FINITE)
            token = int(best.indices) if self.row.chooser.takes_best else self.row.chooser.choose(scores[0])
        except EngineFailed as error:
            self.row.fail(str(error))
            self.is_failed, token = True, 0
        chosen = torch.full_like(scores, float("-inf"))
        chosen[0, token] = 0.0
        return chosen
