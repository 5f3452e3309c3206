"""LoRA's layers without the passes over memory that change nothing.

PEFT widens what a layer is given to the adapter's fp32, autocast narrows it again, and the adapter's part is scaled and added in
passes of their own; on a CPU these cost more than the adapter. Here W·x + s·B·(A·x) is two products and one more that adds into the
first, the scale is in B, and of the inputs one copy is kept for the backward pass, which layers that are given the same share.
PEFT's layers, their names and their files stay as they are; hooks on parts of a layer are not called. Hu et al., "LoRA" (2021);
Unsloth derives the gradients by hand, too.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear


class _LowRank(torch.autograd.Function):  # type: ignore[misc]
    """x·Wᵀ + bias + scale·(x·Aᵀ)·Bᵀ, W frozen; all but A and B are of one type.

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
        inside = x @ narrow_down.T
        context.save_for_backward(x, inside, weight, narrow_down, narrow_up)
        context.kinds = (down.dtype, up.dtype, scale)
        return linear(x, weight, bias).addmm_(inside, narrow_up.T)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, by_result: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        x, inside, weight, down, up = context.saved_tensors
        down_type, up_type, scale = context.kinds
        by_inside = by_result @ up
        by_x = (by_result @ weight).addmm_(by_inside, down) if context.needs_input_grad[0] else None
        by_down = (by_inside.T @ x).to(down_type)
        by_up = (inside.T @ by_result).T.to(up_type).mul_(scale)
        return by_x, None, None, by_down, by_up, None


def use_low_rank(model: Any) -> None:
    """Has the plain LoRA layers of a PEFT model computed so; others (DoRA, dropout, 4 bits) stay as they are."""
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
    is_the_one = layer.active_adapters == [adapter] and not layer.disable_adapters and not layer.merged
    if not is_the_one or args or named or not (is_cast or x.dtype == dtype == layer.lora_A[adapter].weight.dtype):
        plain: torch.Tensor = type(layer).forward(layer, x, *args, **named)
        return plain
    down, up = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    bias = None if bias is None else bias.to(dtype)
    rows = x.to(dtype).reshape(-1, x.shape[-1])
    found: torch.Tensor = _LowRank.apply(rows, weight.to(dtype), bias, down, up, layer.scaling[adapter])
    return found.view(*x.shape[:-1], -1)
