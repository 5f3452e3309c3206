"""Model FLOPs utilisation: a training's floating-point operations per second over those of a measured matrix product."""

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
"""Side of the square matrices that are multiplied; small ones where the large take too long, as in emulated bf16."""
SECONDS, MAX_SECONDS = 0.3, 1.0


@functools.cache
def matmul_flops(dtype: torch.dtype, device: str) -> float:
    """FLOPs per second of a large matrix product: the best of a few. Measured once per process, as the trials of a search share
    one."""
    small = _product_flops(SMALL_SIDE, dtype, device)
    return small if 2 * SIDE**3 / small > MAX_SECONDS else _product_flops(SIDE, dtype, device)


def _product_flops(side: int, dtype: torch.dtype, device: str) -> float:
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    best, until = float("inf"), time.monotonic() + SECONDS
    while best == float("inf") or time.monotonic() < until:
        start = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * side**3 / best


def epoch_flops(model: Any, lengths: Lengths, learned: int, computed: float = 1.0, extra_passes: int = 0) -> float:
    """FLOPs of one epoch, without recomputed activations (PaLM's model FLOPs, appendix B).

    Per weight and token, a linear layer costs 2 forward, 2 for the gradient of its input, and 2 for that of its weights if trained.
    Layers below the lowest trained one have no backward pass. The head counts for tokens with a loss only, a classification head
    once per sequence. Attention within sequences: 2 products of length² x width / 2 forward, twice that backward.

    Args:
        lengths: tokens of each sequence.
        learned: number of tokens with a loss.
        computed: the share of the tokens that are computed, where a shared prompt is computed once.
        extra_passes: additional forward passes, such as those of a reference model.
    """
    tokens = float(lengths.sum()) * computed
    head = model.get_output_embeddings()
    layers = layers_of(model)
    below = _layers_without_backward(model, layers)
    no_input_gradient = {id(module) for layer in below for module in layer.modules()}
    if head is not None and not any(value.requires_grad for value in model.parameters() if value is not head.weight):
        no_input_gradient.add(id(head))
    in_layers = {id(module) for layer in layers for module in layer.modules()}
    total = 0.0
    for module in model.modules():
        weight = module._parameters.get("weight")  # its own: an adapter also exposes that of the layer it wraps
        if weight is None or weight.dim() != 2 or isinstance(module, torch.nn.Embedding):
            continue
        flops_per_weight = 2 + 2 * extra_passes + 2 * (id(module) not in no_input_gradient) + 2 * weight.requires_grad
        is_classification_head = head is None and id(module) not in in_layers
        count = learned if module is head or is_classification_head else tokens
        total += flops_per_weight * _weight_count(module, weight) * count
    config = model.config
    width = getattr(config, "num_attention_heads", 0) * _head_width(config)
    squares = float((lengths.astype(np.float64) ** 2).sum())
    depth = getattr(config, "num_hidden_layers", len(layers))
    return total + squares * width * ((6 + 2 * extra_passes) * depth - 4 * len(below))


def _weight_count(module: Any, weight: torch.Tensor) -> int:
    """Number of weights of a linear layer. In 4 bits one element of the tensor holds two weights."""
    is_linear = isinstance(module, torch.nn.Linear)
    return int(module.in_features * module.out_features if is_linear else weight.numel())


def layers_of(model: Any) -> list[Any]:
    """The layers: the longest list of modules."""
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(([*modules] for modules in lists), key=len, default=[])


def _layers_without_backward(model: Any, layers: list[Any]) -> list[Any]:
    """The frozen layers below the first trained one. Adapters are in every layer, trained prompts before the first."""
    embeddings = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    if hasattr(model, "peft_config") or any(embedding.weight.requires_grad for embedding in embeddings):
        return []
    return [*itertools.takewhile(lambda layer: not any(p.requires_grad for p in layer.parameters()), layers)]


def _head_width(config: Any) -> int:
    heads = max(getattr(config, "num_attention_heads", 1), 1)
    return int(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads)
