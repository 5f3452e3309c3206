"""GPU kernels for packed rows: variable-length attention, and Liger's norms, rotary embeddings and activations.

The installed libraries decide which of them are used. We have not run any of this on a GPU (docs/training.md).
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch

FLASH, FLEX = "flash_attention_2", "flex_attention"

LIGER = {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}
"""Liger's kernels that are used; the loss is our own (chunked_loss.py), as it computes answer tokens only."""


def attention_on_gpu(precision: str) -> str:
    """FlashAttention where it is installed and the precision is bf16, else PyTorch's FlexAttention: both stay within an example."""
    from transformers.utils import is_flash_attn_2_available

    return FLASH if precision == "bf16" and is_flash_attn_2_available() else FLEX


def use_fast_kernels(model: Any) -> None:
    """Applies Liger's kernels with a GPU, if they are installed (pip install liger-kernel) and support the model."""
    if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
        return
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, LIGER)


def be_deterministic() -> None:
    """Makes a GPU deterministic, at some cost in speed; a CPU is so anyway. Call it before the GPU is first used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def boundaries(cu_seq_lens: torch.Tensor, attention: str) -> dict[str, Any]:
    """The boundaries of a packed row's examples, as arguments of `attention` in addition to `position_ids`.

    Args:
        cu_seq_lens: int32 [examples + 1].
    """
    if attention == FLEX:  # infers them from the positions
        return {}
    if attention != FLASH:
        return {"cu_seq_lens_q": cu_seq_lens}
    longest = int(torch.diff(cu_seq_lens).max())
    return {
        "cu_seq_lens_q": cu_seq_lens,
        "cu_seq_lens_k": cu_seq_lens,
        "max_length_q": longest,
        "max_length_k": longest,
    }
