"""LoRA layers without redundant passes over memory.

PEFT casts a layer's input to the adapter's fp32, autocast casts it back, and scaling and adding the adapter's output are separate
passes; on a CPU these cost more than the adapter itself. Here W·x + s·B·(A·x) is two products and one that accumulates into the
first, the scale is folded into B, and one copy of the input is saved for the backward pass, shared by layers with the same input.
PEFT's layers, their names and their files do not change; hooks on submodules of a layer are not called. Hu et al., "LoRA" (2021);
Unsloth also derives the gradients by hand.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class _LoraLinear(torch.autograd.Function):  # type: ignore[misc]
    """x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ, with frozen W; all tensors except A and B have the same dtype.

    Shapes: x [tokens, in], W [out, in], bias [out] or None, A [rank, in], B [out, rank].
    """

    @staticmethod
    def forward(
        context: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        narrow_down, narrow_up = down.to(x.dtype), (up * scale).to(x.dtype)
        projected = x @ narrow_down.T
        context.save_for_backward(x, projected, weight, narrow_down, narrow_up)
        context.dtypes = (down.dtype, up.dtype, scale)
        return linear(x, weight, bias).addmm_(projected, narrow_up.T)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, by_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, projected, weight, down, up = context.saved_tensors
        down_dtype, up_dtype, scale = context.dtypes
        by_projected = by_output @ up
        by_x = (by_output @ weight).addmm_(by_projected, down) if context.needs_input_grad[0] else None
        by_down = (by_projected.T @ x).to(down_dtype)
        by_up = (projected.T @ by_output).T.to(up_dtype).mul_(scale)
        return by_x, None, None, by_down, by_up, None


def use_fast_lora(model: Any) -> None:
    """Replaces the forward pass of a PEFT model's plain LoRA layers; others (DoRA, dropout, 4 bits) do not change."""
    from peft.tuners.lora.layer import Linear

    for module in model.modules():
        if type(module) is Linear and _is_plain(module):
            module.forward = partial(_forward, module, adapter=next(iter(module.lora_A)))


def _is_plain(layer: Any) -> bool:
    base, (adapter, *others) = layer.base_layer, layer.lora_A
    return (
        not others
        and type(base) is torch.nn.Linear
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
        and adapter not in layer.lora_variant
        and isinstance(layer.lora_dropout[adapter], torch.nn.Identity)
        and layer.lora_B[adapter].bias is None
    )


def _forward(layer: Any, x: torch.Tensor, *args: Any, adapter: str, **named: Any) -> torch.Tensor:
    weight, bias = layer.base_layer.weight, layer.base_layer.bias
    device = x.device.type
    is_cast = torch.is_autocast_enabled(device)
    dtype = torch.get_autocast_dtype(device) if is_cast else weight.dtype
    is_active = layer.active_adapters == [adapter] and not layer.disable_adapters and not layer.merged
    if not is_active or args or named or not (is_cast or x.dtype == dtype == layer.lora_A[adapter].weight.dtype):
        output: torch.Tensor = type(layer).forward(layer, x, *args, **named)
        return output
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    bias = None if bias is None else bias.to(dtype)
    rows = x.to(dtype).reshape(-1, x.shape[-1])
    output = _LoraLinear.apply(rows, weight.to(dtype), bias, down, up, layer.scaling[adapter])
    return output.view(*x.shape[:-1], -1)
