"""The choice of a row's next token from its logits: the most probable one, or sampled; and its log probability.

Only the row's own logits, generator and constraint are used, so that a seeded answer is the same whatever is computed beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tasks.serve.engine.constraint import Constraint
from tasks.serve.engine.request import EngineFailed, Sampling, TokenLogprob

LEAST_TEMPERATURE = 1e-4
"""A lower one is greedy decoding: logits divided by it would be infinite."""
SEEDS = 1 << 63


class Chooser:
    """Chooses the tokens of one row.

    Args:
        seed: of the generator.
    """

    def __init__(self, sampling: Sampling, seed: int, constraint: Constraint | None = None) -> None:
        self.constraint, self.is_greedy = constraint, sampling.temperature < LEAST_TEMPERATURE
        self.warpers = [] if self.is_greedy else _warpers(sampling)
        self.generator = torch.Generator().manual_seed(seed % SEEDS)

    @property
    def takes_best(self) -> bool:
        """The token with the largest logit is chosen."""
        return self.is_greedy and self.constraint is None

    def choose(self, logits: torch.Tensor) -> int:
        """The next token by logits [vocabulary] that are finite.

        Raises:
            EngineFailed: the constraint allows no token.
        """
        scores = logits.float().cpu()
        if self.constraint is not None:
            scores = self.constraint.mask(scores)
            if not bool(torch.isfinite(scores.max())):
                raise EngineFailed("no token may come next by the JSON schema")
        if self.is_greedy:
            return int(scores.max(dim=-1).indices)
        scores = scores[None] - scores.max()
        for warper in self.warpers:
            scores = warper(None, scores)
        probabilities = torch.softmax(scores[0], dim=-1)
        return int(torch.multinomial(probabilities, 1, generator=self.generator))

    def take(self, token: int) -> None:
        if self.constraint is not None:
            self.constraint.take(token)

    @property
    def is_complete(self) -> bool:
        return self.constraint is not None and self.constraint.is_complete


def _warpers(sampling: Sampling) -> list[Any]:
    from transformers import TemperatureLogitsWarper, TopPLogitsWarper

    warpers: list[Any] = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_p < 1.0:
        warpers.append(TopPLogitsWarper(max(0.0, float(sampling.top_p))))
    return warpers


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    """Of a row, as the model computes them: before penalty, temperature, top_p and constraint. A copy, [vocabulary]."""
    return torch.log_softmax(logits.float(), dim=-1).cpu()


def token_logprob(log_probs: torch.Tensor, token: int, top: int, bytes_of: Callable[[int], bytes]) -> TokenLogprob:
    """What is reported of a chosen token.

    Args:
        top: the number of most probable tokens beside it.
    """
    best = log_probs.topk(min(top, len(log_probs)))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    own = bytes_of(token)
    alternatives = tuple((_text(bytes_of(number)), value) for number, value in pairs)
    return TokenLogprob(_text(own), tuple(own), float(log_probs[token]), alternatives)


def _text(content: bytes) -> str:
    return content.decode("utf-8", "replace")
