"""RMS norms of transformers' models in one call of torch with the same bits, instead of seven from Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def quick_norms(model: Any) -> Iterator[int]:
    """Computes the RMS norms of `model` by torch's function where it gives the same bits; yields their number."""
    forwards = {module: _quick_forward(module) for module in model.modules() if _is_rms_norm(module)}
    same = {module: forward for module, forward in forwards.items() if _has_same_bits(module, forward)}
    try:
        for module, forward in same.items():
            module.forward = forward
        yield len(same)
    finally:
        for module in same:
            module.__dict__.pop("forward", None)


def _is_rms_norm(module: Any) -> bool:
    weight = getattr(module, "weight", None)
    return (
        type(module).__name__.endswith("RMSNorm")
        and isinstance(getattr(module, "variance_epsilon", None), float)
        and isinstance(weight, torch.Tensor)
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and weight.dim() == 1
        and "forward" not in vars(module)
    )


def _quick_forward(module: Any) -> Callable[[torch.Tensor], torch.Tensor]:
    weight, epsilon = module.weight.detach(), module.variance_epsilon

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.rms_norm(inputs, weight.shape, weight, epsilon)

    return forward


def _has_same_bits(module: Any, forward: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Compares the two on a few rows, large and small."""
    count = module.weight.numel()
    row = torch.linspace(-3.0, 4.0, count, device=module.weight.device)
    with torch.inference_mode():
        rows = torch.stack([row, row.flip(0) ** 3, row.sin() * 1e-3])[None]
        is_same: bool = torch.equal(module(rows), forward(rows))
        return is_same
