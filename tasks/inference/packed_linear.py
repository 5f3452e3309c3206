"""Linear layers whose weights are laid out once for oneDNN, on a CPU: a batch of 16 rows is computed up to twice as fast.

A BLAS library rearranges the weights in every call, which costs as much as the product of a few rows
(docs/decisions/0023-generation.md).
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from tasks.base.precision import computes_bf16

MAX_BYTES = 4 << 30
"""Weights of a larger model are not copied into the second layout. Not the free memory: the layout affects the last bits."""
MIN_WEIGHTS = 1 << 14
"""A smaller layer is faster as it is."""
MEASURED_ON = ("x86_64", "AMD64")


@contextmanager
def packed_linears(model: Any) -> Iterator[int]:
    """Computes the linear layers of `model` with packed weights on a CPU (bf16 only where it is native); yields their number."""
    layers = [module for module in model.modules() if _is_packable(module)]
    bytes_of_layers = sum(layer.weight.nbytes for layer in layers)
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise") or not 0 < bytes_of_layers <= MAX_BYTES:
        yield 0
        return
    try:
        for layer in layers:
            layer.forward = _packed_forward(layer)
        yield len(layers)
    finally:
        for layer in layers:
            layer.__dict__.pop("forward", None)


def _is_packable(module: Any) -> bool:
    return (
        type(module) is torch.nn.Linear
        and module.weight.device.type == "cpu"
        and (module.weight.dtype == torch.float32 or (module.weight.dtype == torch.bfloat16 and computes_bf16()))
        and module.weight.numel() >= MIN_WEIGHTS
        and "forward" not in vars(module)
        and torch.backends.mkldnn.is_available()
        and platform.machine() in MEASURED_ON
    )


def _packed_forward(layer: torch.nn.Linear) -> Callable[[torch.Tensor], torch.Tensor]:
    with torch.inference_mode():
        weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), None)
        bias = None if layer.bias is None else layer.bias.detach()

    def forward(inputs: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = torch.ops.mkldnn._linear_pointwise(inputs, weight, bias, "none", [], "")
        return outputs

    return forward
