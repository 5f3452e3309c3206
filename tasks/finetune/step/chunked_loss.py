"""The loss of answer tokens in chunks, so that the logits of a whole batch are never in memory.

For each chunk, the forward pass computes logits, loss and the gradients of hidden states (and of the head's weights, if trained);
the backward pass scales them. Hsu et al., "Liger Kernel" (2024), do the same on a GPU.
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
"""Logits per chunk: 64 MB in fp32; 25 MB fit into a CPU's cache."""
MIN_CHUNK_TOKENS = 128
"""Minimum tokens of a chunk, as each chunk reads all weights of the head."""
_PROBE_TOKENS = 8


LossFunction = Callable[[torch.Tensor, slice, bool], tuple[torch.Tensor, torch.Tensor | None]]
"""Logits of a chunk, slice of its tokens, is the gradient needed? → sum of the losses, gradient with respect to the logits."""


class _Chunked(torch.autograd.Function):  # type: ignore[misc]
    """Sum of a loss function over the logits of all tokens, in chunks."""

    @staticmethod
    def forward(
        context: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, loss_function: LossFunction
    ) -> torch.Tensor:
        needs = context.needs_input_grad
        rows = max(1, LOGITS_AT_ONCE // weight.shape[0])
        # a trained head's gradient is accumulated per chunk, so few large chunks are faster
        if weight.device.type == "cpu" and not needs[1]:
            rows = min(rows, max(MIN_CHUNK_TOKENS, CACHED_LOGITS // weight.shape[0]))
        total = hidden.new_zeros((), dtype=torch.float32)
        by_hidden = torch.empty_like(hidden) if needs[0] else None
        by_weight = torch.zeros_like(weight, dtype=torch.float32) if needs[1] else None
        by_bias = torch.zeros_like(bias, dtype=torch.float32) if bias is not None and needs[2] else None
        for first in range(0, len(hidden), rows):
            part = hidden[first : first + rows]
            loss, gradient = loss_function(linear(part, weight, bias), slice(first, first + rows), any(needs[:3]))
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
        gradients = (by_hidden, by_weight, by_bias)
        scaled = [None if value is None else value.mul_(scale.to(value.dtype)) for value in gradients]
        by_weight = None if scaled[1] is None else scaled[1].to(dtype)
        by_bias = None if scaled[2] is None else scaled[2].to(dtype)
        return scaled[0], by_weight, by_bias, None


def cross_entropy(labels: torch.Tensor, smoothing: float = 0.0) -> LossFunction:
    """Cross-entropy with `labels` (int64 [tokens]), in nats; `smoothing` of the target is spread uniformly."""

    def loss_of(logits: torch.Tensor, tokens: slice, needs_gradient: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        losses, gradient = _cross_entropies(logits, labels[tokens], smoothing, needs_gradient)
        return losses.sum(), gradient

    return loss_of


def _cross_entropies(
    logits: torch.Tensor, labels: torch.Tensor, smoothing: float, needs_gradient: bool
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Losses [tokens], and the gradient of their sum with respect to the logits."""
    targets = labels[:, None]
    scores = logits.to(torch.float32, copy=True)
    maximum, target_score = scores.amax(-1, keepdim=True), scores.gather(-1, targets)
    mean = scores.mean(-1, keepdim=True) if smoothing else 0.0
    exponentials = scores.sub_(maximum).exp_()  # in the same memory
    sums = exponentials.sum(-1, keepdim=True)
    losses = (sums.log() + maximum - (1 - smoothing) * target_score - smoothing * mean)[:, 0]
    if not needs_gradient:
        return losses, None
    gradient = exponentials.div_(sums)  # the probabilities, in the same memory
    if smoothing:
        gradient -= smoothing / logits.shape[-1]
    return losses, gradient.scatter_add_(-1, targets, torch.full_like(targets, -(1 - smoothing), dtype=gradient.dtype))


@dataclass(frozen=True)
class SoftTargets:
    """A teacher's most likely tokens at each position, with their log-probabilities."""

    ids: torch.Tensor
    """int64 [tokens, top]."""
    log_probabilities: torch.Tensor
    """float [tokens, top], in nats; NaN without teacher targets: then only the row's own answer counts."""
    temperature: float
    share: float


def distillation(labels: torch.Tensor, soft: SoftTargets) -> LossFunction:
    """share x temperature² x the softened KL divergence from the teacher, plus (1 - share) x the cross-entropy with `labels`
    (Hinton et al., 2015). The teacher's probability of tokens that are not stored is spread over the stored ones.
    """

    def loss_of(logits: torch.Tensor, tokens: slice, needs_gradient: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
        ids, teacher, temperature = soft.ids[tokens], soft.log_probabilities[tokens].float(), soft.temperature
        has_teacher = (~torch.isnan(teacher[:, :1])).float()
        teacher_log = torch.log_softmax(torch.nan_to_num(teacher) / temperature, -1)  # as of logits
        target = teacher_log.exp() * has_teacher * soft.share
        student_log = torch.log_softmax(logits.float() / temperature, -1)
        gaps = torch.where(target > 0, teacher_log - student_log.gather(-1, ids), 0.0)  # the teacher's may be -inf
        divergence = (target * gaps).sum()
        label_weight = 1 - soft.share * has_teacher
        losses, by_labels = _cross_entropies(logits, labels[tokens], 0.0, needs_gradient)
        loss = temperature**2 * divergence + (label_weight[:, 0] * losses).sum()
        if by_labels is None:
            return loss, None
        by_teacher = student_log.exp_().mul_(has_teacher * soft.share).scatter_add_(-1, ids, -target).mul_(temperature)
        return loss, by_teacher.add_(by_labels.mul_(label_weight))

    return loss_of


def summed_loss(
    hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, loss_function: LossFunction
) -> torch.Tensor:
    """Sum over tokens of the loss of the logits hidden · weightᵀ + bias.

    Args:
        hidden: [tokens, width]; computed in its dtype, under autocast in autocast's.
        weight: [vocabulary, width], `bias`: [vocabulary]. The head.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
        bias = None if bias is None else bias.to(dtype)
    if not torch.is_grad_enabled():  # needs_input_grad is True in a custom function all the same
        hidden, weight = hidden.detach(), weight.detach()
        bias = None if bias is None else bias.detach()
    loss: torch.Tensor = _Chunked.apply(hidden, weight, bias, loss_function)
    return loss


class _LossOfLogits(torch.autograd.Function):  # type: ignore[misc]
    @staticmethod
    def forward(context: Any, logits: torch.Tensor, loss_function: LossFunction) -> torch.Tensor:
        loss, context.gradient = loss_function(logits, slice(None), context.needs_input_grad[0])
        return loss

    @staticmethod
    def backward(context: Any, scale: torch.Tensor) -> tuple[torch.Tensor, None]:
        return context.gradient.mul_(scale), None


def loss_of_logits(logits: torch.Tensor, loss_function: LossFunction) -> torch.Tensor:
    """Sum of the loss over existing logits [tokens, vocabulary]."""
    loss: torch.Tensor = _LossOfLogits.apply(
        logits.float() if torch.is_grad_enabled() else logits.float().detach(), loss_function
    )
    return loss


def use_answer_loss(model: Any) -> bool:
    """Lets a causal LM compute the summed loss of some tokens itself: `model(..., answer_positions=, answer_labels=, soft=)`.

    It replaces the model's own `forward`, so that adapters around it, and DDP or FSDP around those, still work.

    Returns:
        False for a model whose logits are not simply its head applied to the last hidden states of its body.
    """
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    body = getattr(inner, inner.base_model_prefix, None)
    head = inner.get_output_embeddings()
    if body is None or body is inner or type(head) is not torch.nn.Linear or not _logits_are_plain(inner, body, head):
        return False
    original = inner.forward

    def forward(
        self: Any,
        *args: Any,
        answer_positions: torch.Tensor | None = None,
        answer_labels: torch.Tensor | None = None,
        label_smoothing: float = 0.0,
        soft: SoftTargets | None = None,
        **named: Any,
    ) -> Any:
        if answer_positions is None or answer_labels is None:
            return original(*args, **named)
        hidden = body(*args, **named)[0].flatten(0, 1)[answer_positions]
        loss_function = distillation(answer_labels, soft) if soft else cross_entropy(answer_labels, label_smoothing)
        return CausalLMOutput(loss=summed_loss(hidden, head.weight, head.bias, loss_function))

    inner.forward = MethodType(forward, inner)
    return True


def _logits_are_plain(inner: Any, body: Any, head: torch.nn.Linear) -> bool:
    """Are the logits the head applied to the body's output? Some models scale or cap them."""
    was_training = inner.training
    inner.eval()
    try:
        ids = torch.arange(_PROBE_TOKENS, device=head.weight.device)[None] % head.weight.shape[0]
        bounds = {"cu_seq_lens_q": torch.tensor([0, _PROBE_TOKENS], dtype=torch.int32)}
        positions = torch.arange(_PROBE_TOKENS, device=head.weight.device)[None]
        named = {"input_ids": ids, "position_ids": positions, "use_cache": False, **bounds}
        is_mixed = len({value.dtype for value in inner.parameters() if value.is_floating_point()}) > 1
        is_narrow = is_mixed or inner.config._attn_implementation == FLASH
        with torch.no_grad(), torch.autocast(head.weight.device.type, torch.bfloat16, enabled=is_narrow):
            return bool(torch.equal(inner(**named).logits, head(body(**named)[0])))
    finally:
        inner.train(was_training)
