"""How much of the machine a training uses: its floating-point operations a second against a matrix product's, measured here."""

from __future__ import annotations

import functools
import itertools
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

Lengths = npt.NDArray[np.int64]
SIDE, SMALL_SIDE = 2048, 512
"""Of the square matrices that are multiplied; small ones where these take too long, as in bf16 without instructions for it."""
SECONDS, MOST_SECONDS = 0.3, 1.0


@functools.cache
def matmul_flops(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a large matrix product: the best of a few. Measured once a process, as the trials of
    a search share one."""
    small = _product_flops(SMALL_SIDE, dtype, device)
    return small if 2 * SIDE**3 / small > MOST_SECONDS else _product_flops(SIDE, dtype, device)


def _product_flops(side: int, dtype: torch.dtype, device: str) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.monotonic() + SECONDS
    while best == float("inf") or time.monotonic() < until:
        began = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


def epoch_flops(model: Any, lengths: Lengths, learned: int, computed: float = 1.0, looks: int = 0) -> float:
    """Operations that one epoch needs: no more is counted for recomputed activations (PaLM's model FLOPs, appendix B).

    A linear layer costs 2 a weight and token forward, 2 backward for what it was given, and 2 more for its weights where those
    are trained. Layers below the lowest that trains have no backward pass. The head is counted for learned tokens alone, one of
    labels for each sequence once. Attention inside sequences: 2 products of length² x width / 2 forward, twice that backward.

    Args:
        lengths: tokens of each sequence.
        learned: how many of them have a loss.
        computed: the share of the tokens that are computed, where a prompt that examples share is computed once.
        looks: forward passes beside the training's own, such as of the model that preferences are compared with.
    """
    tokens = float(lengths.sum()) * computed
    head = model.get_output_embeddings()
    layers = _layers(model)
    below = _layers_without_backward(model, layers)
    ends_here = {id(module) for layer in below for module in layer.modules()}
    if head is not None and not any(value.requires_grad for value in model.parameters() if value is not head.weight):
        ends_here.add(id(head))
    in_layers = {id(module) for layer in layers for module in layer.modules()}
    total = 0.0
    for module in model.modules():
        weight = module._parameters.get("weight")  # its own: an adapter also shows that of the layer it wraps
        if weight is None or weight.dim() != 2 or isinstance(module, torch.nn.Embedding):
            continue
        passes = 2 + 2 * looks + 2 * (id(module) not in ends_here) + 2 * weight.requires_grad
        is_of_labels = head is None and id(module) not in in_layers
        total += passes * _weights(module, weight) * (learned if module is head or is_of_labels else tokens)
    config = model.config
    width = getattr(config, "num_attention_heads", 0) * _head_width(config)
    squares = float((lengths.astype(np.float64) ** 2).sum())
    deep = getattr(config, "num_hidden_layers", len(layers))
    return total + squares * width * ((6 + 2 * looks) * deep - 4 * len(below))


def _weights(module: Any, weight: torch.Tensor) -> int:
    """Of a linear layer. In 4 bits two of them are one element of the tensor."""
    is_linear = isinstance(module, torch.nn.Linear)
    return int(module.in_features * module.out_features if is_linear else weight.numel())


def _layers(model: Any) -> list[Any]:
    lists = [each for each in model.modules() if isinstance(each, torch.nn.ModuleList)]
    return max(([*each] for each in lists), key=len, default=[])


def _layers_without_backward(model: Any, layers: list[Any]) -> list[Any]:
    """The frozen layers that nothing trained stands before. Adapters are in every layer, trained prompts before the first."""
    embeddings = [each for each in model.modules() if isinstance(each, torch.nn.Embedding)]
    if hasattr(model, "peft_config") or any(each.weight.requires_grad for each in embeddings):
        return []
    return [*itertools.takewhile(lambda each: not any(p.requires_grad for p in each.parameters()), layers)]


def _head_width(config: Any) -> int:
    heads = max(getattr(config, "num_attention_heads", 1), 1)
    return int(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads)
