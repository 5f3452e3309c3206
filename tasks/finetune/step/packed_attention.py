"""Batches of packed rows without padding, and attention within each example.

A batch is one flat row [1, tokens]: the concatenated packed rows of a micro-batch, with positions that restart at each example. The
boundaries are passed as `cu_seq_lens_q`, so that attention is computed per example: over a whole row of 1,215 tokens, masked
attention was 45 % of a training step on a CPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from tasks.dataset.rendered import Rendered
from tasks.finetune.step.cpu_attention import attend_in_batches, is_short
from tasks.finetune.step.gpu_kernels import attention_on_gpu
from tasks.finetune.step.packing_probe import supports_packed_rows
from tasks.finetune.step.shared_prefix import prompt_tokens, share_prompt, whole_examples, without_repetitions

ATTENTION = "strop_packed"
Batch = dict[str, Any]


class PackedRows(Dataset[Batch]):  # type: ignore[misc]
    """The packed rows of a split; item i is row i as flat arrays.

    Args:
        learns_all: all tokens except the first of each example have a loss, not only those of answers.
    """

    def __init__(self, rendered: Rendered, learns_all: bool = False) -> None:
        self.rendered = rendered
        self.learns_all = learns_all

    def __len__(self) -> int:
        return len(self.rendered)

    def __getitem__(self, index: int) -> Batch:
        bounds = self.rendered.bounds(index)
        span = slice(int(bounds[0]), int(bounds[-1]))
        lengths = np.diff(bounds)
        mask = np.asarray(self.rendered.loss_mask[span])
        if self.learns_all:
            mask = np.ones_like(mask)
            mask[np.cumsum(lengths) - lengths] = 0
        return {
            "input_ids": np.asarray(self.rendered.input_ids[span]),
            "loss_mask": mask,
            "lengths": lengths,
            "row": index,
        }


def collate(rows: list[Batch]) -> Batch:
    """Packed rows → one flat batch.

    Returns:
        input_ids, position_ids, labels: int64 [1, tokens], labels -100 without a loss; cu_seq_lens_q: int32 [examples + 1],
        starts of the examples, and the end; rows: int64 [rows], indices of the packed rows. With a teacher's targets, soft_ids:
        int32 [trained tokens, top], soft_log_probabilities: float16, the same shape.
    """
    ids = np.concatenate([row["input_ids"] for row in rows]).astype(np.int64)
    mask = np.concatenate([row["loss_mask"] for row in rows]).astype(bool)
    lengths = np.concatenate([row["lengths"] for row in rows])
    positions = np.concatenate([np.arange(length) for length in lengths])
    return {
        "input_ids": torch.from_numpy(ids)[None],
        "position_ids": torch.from_numpy(positions)[None],
        "labels": torch.from_numpy(np.where(mask, ids, -100))[None],
        "cu_seq_lens_q": torch.from_numpy(np.cumsum([0, *lengths], dtype=np.int32)),
        "rows": torch.tensor([row["row"] for row in rows]),
        **{
            name: torch.from_numpy(np.concatenate([row[name] for row in rows]))
            for name in ("soft_ids", "soft_log_probabilities")
            if name in rows[0]
        },
    }


def collate_shared_prompt(rows: list[Batch]) -> Batch:
    """As `collate`, with the prompt that all examples share only once (shared_prefix.py)."""
    return share_prompt(collate(rows))


def collate_padded(rows: list[Batch]) -> Batch:
    """Packed rows → an unpacked, padded batch, for models that do not support packed rows.

    Returns:
        input_ids, attention_mask, labels: int64 [examples, longest], labels -100 without a loss; rows: int64 [rows]; a teacher's
        targets as in `collate`.
    """
    packed = collate(rows)
    edges = packed["cu_seq_lens_q"]
    lengths = torch.diff(edges)
    inside = torch.arange(int(lengths.max()))[None] < lengths[:, None]
    padded = {"attention_mask": inside.long(), "rows": packed["rows"]}
    for name, empty in (("input_ids", 0), ("labels", -100)):
        padded[name] = torch.full(inside.shape, empty).masked_scatter(inside, packed[name][0])
    return padded | {name: value for name, value in packed.items() if name.startswith("soft_")}


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    cu_seq_lens_q: torch.Tensor | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example. Shapes as in transformers: query [1, heads, tokens, width]; key and value may have
    fewer heads. Returns [1, tokens, heads, width].

    Args:
        cu_seq_lens_q: start of each example, and the end; with a shared prompt as first sequence, as written by shared_prefix.py.
    """
    assert cu_seq_lens_q is not None, "this model does not pass keyword arguments to its attention"
    prompt = prompt_tokens(cu_seq_lens_q)
    parts = torch.diff(cu_seq_lens_q.clamp(min=0)).tolist()
    own = parts[1:] if prompt else parts
    lengths = [prompt + length for length in own]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    dropout_rate = dropout if module.training else 0.0
    if not dropout_rate and is_short(max(lengths), value):
        return attend_in_batches(query, key, value, own, prompt, scale)[None], None
    if prompt:
        query, key, value = (whole_examples(states, parts) for states in (query, key, value))
    attended = _attend_one_by_one(query, key, value, lengths, scale, dropout_rate)
    return (without_repetitions(attended, parts) if prompt else attended)[None], None


def _attend_one_by_one(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: list[int], scale: float, dropout: float
) -> torch.Tensor:
    """The fused kernel, one example at a time. Returns [tokens, heads, width]."""
    parts = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    shares_heads = key.shape[1] != query.shape[1]
    outputs = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, dropout_p=dropout, scale=scale, is_causal=True, enable_gqa=shares_heads
        )
        for q, k, v in parts
    ]
    return torch.cat(outputs, dim=2)[0].transpose(0, 1).contiguous()


def use_packed_attention(model: Any, precision: str = "fp32") -> bool:
    """Sets an attention of `model` that stays within each example of a packed batch: on a CPU the functions above.

    Returns:
        False for a model whose logits would differ between packed rows and single examples; it is not changed.
    """
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    original = model.config._attn_implementation
    if model.device.type == "cuda":
        model.set_attn_implementation(attention_on_gpu(precision))
    else:
        AttentionInterface.register(ATTENTION, packed_attention)
        # no mask over the whole row is needed: the boundaries define it
        AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)
        model.set_attn_implementation(ATTENTION)
    if supports_packed_rows(model, original):
        return True
    model.set_attn_implementation(original)
    return False
