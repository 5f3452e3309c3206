"""The loss of answers, a chunk of tokens at a time: the logits of a whole batch are never held.

For a chunk, logits, loss and the gradients by hidden states (and by the head's weights, where they are trained) are computed
together in the forward pass; the backward pass scales them. Hsu et al., "Liger Kernel" (2024), do so on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import MethodType
from typing import Any

import torch
from torch.nn.functional import linear
from transformers.modeling_outputs import CausalLMOutput

from tasks.finetune.step.gpu_kernels import FLASH

LOGITS_AT_ONCE, CACHED_LOGITS = 16 * 2**20, 6 * 2**20
"""Logits of a chunk: 64 MB in fp32; 25 MB find room in a CPU's cache."""
LEAST_CACHED_TOKENS = 128
"""For each chunk all weights of the head are read."""
_TRIED_TOKENS = 8


Judge = Callable[[torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor | None]]
"""Logits of some tokens, which they are, is the gradient needed? → the sum of their losses, and its gradient by the logits."""


class _Chunked(torch.autograd.Function):  # type: ignore[misc]
    """Sum of the losses that `judge` finds, of the logits of some tokens."""

    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, judge: Judge
    ) -> torch.Tensor:
        needs = context.needs_input_grad
        rows = max(1, LOGITS_AT_ONCE // weight.shape[0])
        # a head that is trained is gone through for each chunk: then few large ones
        if weight.device.type == "cpu" and not needs[1]:
            rows = min(rows, max(LEAST_CACHED_TOKENS, CACHED_LOGITS // weight.shape[0]))
        total = hidden.new_zeros((), dtype=torch.float32)
        by_hidden = torch.empty_like(hidden) if needs[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        for first in range(0, len(hidden), rows):
            part = hidden[first : first + rows]
            loss, gradient = judge(linear(part, weight, bias), slice(first, first + rows), any(needs[:3]))
            total += loss
            if gradient is None:
                continue
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
        return scaled[0], by_weight, by_bias, None


def cross_entropy(labels: torch.Tensor, smoothing: float = 0.0) -> Judge:
    """Judges by the cross-entropy with `labels` (int64 [tokens]), in nats; `smoothing` of the target is spread evenly."""

    def judge(logits: torch.Tensor, which: slice, needs_gradient: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        losses, gradient = _cross_entropies(logits, labels[which], smoothing, needs_gradient)
        return losses.sum(), gradient

    return judge


def _cross_entropies(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Losses [tokens], and the gradient of their sum by the logits."""
    wanted = labels[:, None]
    shares = logits.to(torch.float32, copy=True)
    highest, own = shares.amax(-1, keepdim=True), shares.gather(-1, wanted)
    mean = shares.mean(-1, keepdim=True) if smoothing else 0.0
    sums = shares.sub_(highest).exp_().sum(-1, keepdim=True)
    losses = (sums.log() + highest - (1 - smoothing) * own - smoothing * mean)[:, 0]
    if not needs_gradient:
        return losses, None
    gradient = shares.div_(sums)  # the probabilities, in the same memory
    if smoothing:
        gradient -= smoothing / logits.shape[-1]
    return losses, gradient.scatter_add_(-1, wanted, torch.full_like(wanted, -(1 - smoothing), dtype=gradient.dtype))


@dataclass(frozen=True)
class SoftTargets:
    """What a teacher thinks of the tokens that may stand at each place: its likeliest ones."""

    ids: torch.Tensor
    """int64 [tokens, top]."""
    log_probabilities: torch.Tensor
    """float [tokens, top], in nats; no number where the teacher was not asked: the row's own answer is all there is."""
    temperature: float
    share: float


def distillation(labels: torch.Tensor, soft: SoftTargets) -> Judge:
    """Judges by share x temperature² x the divergence from the teacher's likeliest tokens, both softened, and (1 - share) x the
    cross-entropy with `labels` (Hinton et al., 2015). What the teacher left to other tokens is spread over those that are kept.
    """

    def judge(logits: torch.Tensor, which: slice, needs_gradient: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        ids, known, heat = soft.ids[which], soft.log_probabilities[which].float(), soft.temperature
        asked = (~torch.isnan(known[:, :1])).float()
        wanted = torch.log_softmax(torch.nan_to_num(known) / heat, -1)  # of log-probabilities, it is as of logits
        target = wanted.exp() * asked * soft.share
        shares = torch.log_softmax(logits.float() / heat, -1)
        gaps = torch.where(target > 0, wanted - shares.gather(-1, ids), 0.0)  # where none stands, `wanted` may be -inf
        divergence = (target * gaps).sum()
        own = 1 - soft.share * asked
        losses, by_hard = _cross_entropies(logits, labels[which], 0.0, needs_gradient)
        loss = heat**2 * divergence + (own[:, 0] * losses).sum()
        if by_hard is None:
            return loss, None
        by_soft = shares.exp_().mul_(asked * soft.share).scatter_add_(-1, ids, -target).mul_(heat)
        return loss, by_soft.add_(by_hard.mul_(own))

    return judge


def summed_loss(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, judge: Judge) -> torch.Tensor:
    """Sum over tokens of what `judge` says of the logits hidden · weightᵀ + bias.

    Args:
        hidden: [tokens, width]; computed in its type, under autocast in that of autocast.
        weight: [vocabulary, width], `bias`: [vocabulary]. The head.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():  # a function of one's own is told to compute gradients all the same
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    loss: torch.Tensor = _Chunked.apply(hidden, weight, bias, judge)
    return loss


class _Judged(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(context: Any, logits: torch.Tensor, judge: Judge) -> torch.Tensor:
        loss, context.gradient = judge(logits, slice(None), context.needs_input_grad[0])
        return loss

    @staticmethod
    def backward(context: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None]:
        return context.gradient.mul_(scale), None


def judged(logits: torch.Tensor, judge: Judge) -> torch.Tensor:
    """What `judge` says of logits [tokens, vocabulary] that are there already."""
    loss: torch.Tensor = _Judged.apply(logits.float() if torch.is_grad_enabled() else logits.float().detach(), judge)
    return loss


def use_answer_loss(model: Any) -> bool:
    """Teaches a causal LM to compute the summed loss of some tokens itself: `model(..., answer_places=, answer_labels=, soft=)`.

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
        soft: SoftTargets | None = None,
        **named: Any,
    ) -> Any:
        if answer_places is None or answer_labels is None:
            return original(*args, **named)
        hidden = body(*args, **named)[0].flatten(0, 1)[answer_places]
        judge = distillation(answer_labels, soft) if soft else cross_entropy(answer_labels, label_smoothing)
        return CausalLMOutput(loss=summed_loss(hidden, head.weight, head.bias, judge))

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
        is_narrow = is_mixed or inner.config._attn_implementation == FLASH
        with torch.no_grad(), torch.autocast(head.weight.device.type, torch.bfloat16, enabled=is_narrow):
            return bool(torch.equal(inner(**named).logits, head(body(**named)[0])))
    finally:
        inner.train(was_training)
