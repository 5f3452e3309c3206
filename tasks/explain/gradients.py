"""Integrated gradients of a model with a head: how much each token adds to an output (Sundararajan et al., ICML 2017).

The path leads from a baseline, in which each token of the text is the padding token, to the text. The values of all tokens sum to
the difference between the two outputs (completeness), apart from the error of the numerical integral.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from tasks.explain.captum_import import captum_attr

STEPS = (32, 64, 128, 256, 512)
"""Numbers of steps, tried in this order until the error is small."""
TOLERANCE, SMALLEST = 0.02, 1e-3
"""The greatest error: this share of the difference between the outputs, or this number."""
TOKENS_AT_ONCE = 2048


@dataclass(frozen=True)
class Gradients:
    values: list[float]
    """One per token."""
    output: float
    baseline: float
    """The output of the baseline."""
    steps: int

    @property
    def error(self) -> float:
        """The sum of the values minus the difference between the outputs: the convergence delta."""
        return sum(self.values) - (self.output - self.baseline)

    @property
    def is_converged(self) -> bool:
        return abs(self.error) <= max(TOLERANCE * abs(self.output - self.baseline), SMALLEST)


def integrated_gradients(
    model: Any,
    ids: Sequence[int],
    output: int,
    *,
    padding: int,
    fixed: Collection[int],
    on_steps: Callable[[int], None] = lambda steps: None,
) -> Gradients:
    """The gradients of one output of the head.

    Args:
        output: its index in the head.
        padding: the token of the baseline.
        fixed: ids of tokens that are the same in the baseline: special tokens.
    """
    inputs = torch.tensor([ids], device=model.device)
    baselines = torch.tensor([[token if token in fixed else padding for token in ids]], device=model.device)
    embeddings = model.get_input_embeddings()

    def forward(tokens: torch.Tensor) -> torch.Tensor:
        # the mask has no padding: the baseline has as many positions as the text
        logits = model(input_ids=tokens, attention_mask=torch.ones_like(tokens)).logits
        return logits[:, output].float()

    with torch.no_grad():
        start = embeddings(baselines)
        of_text = float(forward(inputs))
        # with the text's own tokens: a decoder's head reads the last token that is not padding
        hook = embeddings.register_forward_hook(lambda *_: start)
        try:
            of_baseline = float(forward(inputs))
        finally:
            hook.remove()
    method = captum_attr().LayerIntegratedGradients(forward, embeddings)
    for steps in STEPS:
        on_steps(steps)
        values = method.attribute(
            inputs, baselines, n_steps=steps, internal_batch_size=max(1, TOKENS_AT_ONCE // len(ids))
        )
        result = Gradients(values.double().sum(dim=-1)[0].tolist(), of_text, of_baseline, steps)
        if result.is_converged:
            break
    return result
