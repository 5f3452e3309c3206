"""How much of the machine a training uses: its floating-point operations a second against a matrix product's, measured here."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch

from tasks.rendered import Rendered

SIDE = 2048
"""Of the square matrices that are multiplied."""
SECONDS = 0.3


def matmul_flops(dtype: torch.dtype, device: str) -> float:
    """Floating-point operations a second of a large matrix product: the best of a few."""
    left = torch.randn(SIDE, SIDE, device=device).to(dtype)
    right = torch.randn(SIDE, SIDE, device=device).to(dtype)
    best, until = float("inf"), time.monotonic() + SECONDS
    while best == float("inf") or time.monotonic() < until:
        began = time.perf_counter()
        left @ right
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - began)
    return 2 * SIDE**3 / best


def epoch_flops(model: Any, train: Rendered, learns_all: bool = False) -> float:
    """Operations that one epoch needs: no more is counted for recomputed activations (PaLM's model FLOPs, appendix B).

    A linear layer costs 2 a weight and token forward, 2 backward for what it was given, and 2 more for its weights where those
    are trained. The head is counted for trained tokens alone. Attention inside examples: 2 products of length² x width / 2 forward,
    twice that backward.
    """
    tokens = len(train.input_ids)
    head = model.get_output_embeddings()
    learned = tokens - len(train.packs) if learns_all else int(train.loss_mask.sum())
    total = 0.0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.dim() != 2 or isinstance(module, torch.nn.Embedding):
            continue
        passes = 6 if weight.requires_grad else 4
        total += passes * weight.numel() * (learned if module is head else tokens)
    config = model.config
    width = getattr(config, "num_attention_heads", 0) * _head_width(config)
    squares = float((np.diff(train.examples).astype(np.float64) ** 2).sum())
    return total + 6 * squares * width * getattr(config, "num_hidden_layers", 0)


def _head_width(config: Any) -> int:
    heads = max(getattr(config, "num_attention_heads", 1), 1)
    return int(getattr(config, "head_dim", None) or getattr(config, "hidden_size", 0) // heads)
