"""The loss of answers, a chunk of tokens at a time: the logits of a whole batch are never held.

For a chunk, logits, loss and the gradients by hidden states (and by the head's weights, where they are trained) are computed
together in the forward pass; the backward pass scales them. Hsu et al., "Liger Kernel" (2024), do so on a GPU.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear
from transformers.modeling_outputs import CausalLMOutput

LOGITS_AT_ONCE = 16 * 2**20
"""Logits of a chunk: 64 MB in fp32."""
_TRIED_TOKENS = 8


class _ChunkedCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    """Sum of the cross-entropies of some tokens."""

    @staticmethod
    def forward(
        context: Any,
        hidden: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        labels: torch.Tensor,
        smoothing: float,
    ) -> torch.Tensor:
        needs = context.needs_input_grad
        rows = max(1, LOGITS_AT_ONCE // weight.shape[0])
        total = hidden.new_zeros((), dtype=torch.float32)
        by_hidden = torch.empty_like(hidden) if needs[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        for first in range(0, len(labels), rows):
            part, wanted = hidden[first : first + rows], labels[first : first + rows, None]
            shares = torch.log_softmax(linear(part, weight, bias), -1, dtype=torch.float32)
            total -= (1 - smoothing) * shares.gather(-1, wanted).sum()
            if smoothing:
                total -= smoothing * shares.mean(-1).sum()
            if not any(needs[:3]):
                continue
            gradient = shares.exp_()  # the probabilities, in the same memory
            if smoothing:
                gradient -= smoothing / weight.shape[0]
            gradient.scatter_add_(-1, wanted, torch.full_like(wanted, -(1 - smoothing), dtype=gradient.dtype))
            narrow = gradient.to(part.dtype)
            if by_hidden is not None:
                by_hidden[first : first + rows] = narrow @ weight
            if by_weight is not None:
                by_weight += narrow.T @ part
            if by_bias is not None:
                by_bias += gradient.sum(0)
        context.gradients = (by_hidden, by_weight, by_bias, weight.dtype)
        return total

    @staticmethod
    def backward(context: Any, scale: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        by_hidden, by_weight, by_bias, dtype = context.gradients
        scaled = [None if each is None else each.mul_(scale.to(each.dtype)) for each in (by_hidden, by_weight, by_bias)]
        by_weight = None if scaled[1] is None else scaled[1].to(dtype)
        by_bias = None if scaled[2] is None else scaled[2].to(dtype)
        return scaled[0], by_weight, by_bias, None, None


def summed_cross_entropy(
    hidden: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    labels: torch.Tensor,
    smoothing: float = 0.0,
) -> torch.Tensor:
    """Sum over tokens of the cross-entropy between `labels` and softmax(hidden · weightᵀ + bias), in nats.

    Args:
        hidden: [tokens, width]; computed in its type, under autocast in that of autocast.
        weight: [vocabulary, width], `bias`: [vocabulary]. The head.
        labels: int64 [tokens].
        smoothing: share of the target that is spread evenly over the vocabulary.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():  # a function of one's own is told to compute gradients all the same
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    loss: torch.Tensor = _ChunkedCrossEntropy.apply(hidden, weight, bias, labels, smoothing)
    return loss


def use_answer_loss(model: Any) -> bool:
    """Teaches a causal LM to compute the summed loss of some tokens itself: `model(..., answer_places=, answer_labels=)`.

    It is done in the model's own `forward`, so that adapters around it, and DDP or FSDP around those, go on working.

    Returns:
        False for a model whose logits are more than its head applied to its body's last hidden states.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    body = getattr(inner, inner.base_model_prefix, None)
    head = inner.get_output_embeddings()
    if body is None or body is inner or type(head) is not torch.nn.Linear or not _is_all(inner, body, head):
        return False
    original = inner.forward

    def forward(
        self: Any,
        *args: Any,
        answer_places: torch.Tensor | None = None,
        answer_labels: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        **named: Any,
    ) -> Any:
        if answer_places is None or answer_labels is None:
            return original(*args, **named)
        hidden = body(*args, **named)[0].flatten(0, 1)[answer_places]
        loss = summed_cross_entropy(hidden, head.weight, head.bias, answer_labels, label_smoothing)
        return CausalLMOutput(loss=loss)

    inner.forward = MethodType(forward, inner)
    return True


def _is_all(inner: Any, body: Any, head: torch.nn.Linear) -> bool:
    """Are the logits the head's, of what the body gives? Some models scale or cap them."""
    was_training = inner.training
    inner.eval()
    try:
        ids = torch.arange(_TRIED_TOKENS, device=head.weight.device)[None] % head.weight.shape[0]
        bounds = {"cu_seq_lens_q": torch.tensor([0, _TRIED_TOKENS], dtype=torch.int32)}
        places = torch.arange(_TRIED_TOKENS, device=head.weight.device)[None]
        named = {"input_ids": ids, "position_ids": places, "use_cache": False, **bounds}
        is_mixed = len({value.dtype for value in inner.parameters() if value.is_floating_point()}) > 1
        with torch.no_grad(), torch.autocast(head.weight.device.type, torch.bfloat16, enabled=is_mixed):
            return bool(torch.equal(inner(**named).logits, head(body(**named)[0])))
    finally:
        inner.train(was_training)
