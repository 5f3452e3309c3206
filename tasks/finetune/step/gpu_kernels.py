"""What a GPU computes packed rows with: attention of variable lengths, and Liger's norms, rotations and activations.

Which of them are taken follows from what is installed. None of this was ever run on a GPU by us (docs/training.md).
"""

from __future__ import annotations

import importlib.util
import os
from typing import Any

import torch

FLASH, FLEX = "flash_attention_2", "flex_attention"

LIGER = {"rope": True, "rms_norm": True, "swiglu": True, "cross_entropy": False, "fused_linear_cross_entropy": False}
"""Liger's kernels that are taken; the loss is ours (chunked_loss.py), which computes the answers' tokens alone."""


def attention_on_gpu(precision: str) -> str:
    """Flash attention where it is installed and bf16 is computed in, else PyTorch's flexible one: both stay inside each example."""
    from transformers.utils import is_flash_attn_2_available

    return FLASH if precision == "bf16" and is_flash_attn_2_available() else FLEX


def use_fast_kernels(model: Any) -> None:
    """Takes Liger's kernels where a GPU is and they are installed (pip install liger-kernel), for models that they know."""
    if not torch.cuda.is_available() or importlib.util.find_spec("liger_kernel") is None:
        return
    from transformers.integrations.liger import apply_liger_kernel

    apply_liger_kernel(model, LIGER)


def be_deterministic() -> None:
    """Makes a GPU give the same bits again, at a cost; a CPU does so anyhow. To be called before the GPU is first used."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["FLASH_ATTENTION_DETERMINISTIC"] = "1"
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def boundaries(cu_seq_lens: torch.Tensor, attention: str) -> dict[str, Any]:
    """The boundaries of the examples of a packed row, as `attention` takes them beside `position_ids`.

    Args:
        cu_seq_lens: int32 [examples + 1].
    """
    if attention == FLEX:  # sees them in the positions
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
