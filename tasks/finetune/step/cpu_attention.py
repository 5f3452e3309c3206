"""Causal attention of short examples on a CPU: examples of similar length form one padded batch of plain matrix products.

PyTorch's fused kernel computes one example at a time, and its backward pass in bf16 is slow; under autograd, each step of padding,
masking and scaling is a separate pass over memory, forward and backward (docs/decisions/0005).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

MAX_TOKENS = {torch.bfloat16: 2048, torch.float32: 192}
"""Tokens of an example up to which the fused kernel is slower."""
MAX_PADDING = 1.5
"""Maximum ratio of a batch's padded squared lengths to the squared lengths of its examples."""
BLOCK_TOKENS = 256
"""Queries that are computed together; a longer example is split into blocks, each with the keys that it may attend to."""


def is_short(longest: int, value: torch.Tensor) -> bool:
    """Are examples of at most `longest` tokens computed faster here than by the fused kernel?"""
    return value.device.type == "cpu" and longest <= MAX_TOKENS.get(_computed_in(value), 0)


def attend_in_batches(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prompt: int, scale: float
) -> torch.Tensor:
    """Shapes: query [1, heads, tokens, width]; key and value may have fewer heads, and value another width.

    Returns:
        [tokens, heads, value's width].

    Args:
        lengths: tokens of each example, in order; they sum to all tokens without the prompt.
        prompt: tokens of the shared prompt at the start, which the lengths of the examples do not include.
    """
    layout = _layout(tuple(lengths), prompt, query.shape[1], key.shape[1])
    dtype = _computed_in(value)  # norms of queries and keys may return fp32
    inputs = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    attended: torch.Tensor = _BatchedAttention.apply(*inputs, layout, scale)
    return attended.unflatten(0, (-1, query.shape[1]))


def _computed_in(value: torch.Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype


@dataclass(frozen=True)
class _Batch:
    """Examples of similar length.

    The index tensors map rows of [tokens x heads, width] to [key heads x examples, groups, longest, width]; keys have no groups.
    """

    examples: int
    longest: int
    queries: torch.Tensor
    keys: torch.Tensor
    gradients: torch.Tensor
    """As `queries`, but padding has the index of an appended row of zeros."""


@dataclass(frozen=True)
class _Layout:
    prompt: int
    heads: int
    groups: int
    """Query heads per key head."""
    batches: tuple[_Batch, ...]
    from_queries: torch.Tensor
    """Index of each row in the concatenation of all batches."""
    from_keys: torch.Tensor


@functools.lru_cache(maxsize=4)
def _layout(lengths: tuple[int, ...], prompt: int, heads: int, key_heads: int) -> _Layout:
    starts = list(itertools.accumulate(lengths, initial=prompt))
    groups, rows = heads // key_heads, starts[-1]
    from_queries, from_keys = (torch.empty(rows * count, dtype=torch.long) for count in (heads, key_heads))
    batches: list[_Batch] = []
    offsets = [0, 0]
    for chosen in _group_by_length(lengths, prompt):
        longest = prompt + max(lengths[example] for example in chosen)
        tokens = torch.zeros(len(chosen), longest, dtype=torch.long)
        tokens[:, :prompt] = torch.arange(prompt)
        inside = torch.zeros(len(chosen), longest, dtype=torch.bool)
        inside[0, :prompt] = not batches  # the prompt's own attention is the same in each example
        for index, example in enumerate(chosen):
            span = slice(prompt, prompt + lengths[example])
            tokens[index, span] = torch.arange(starts[example], starts[example] + lengths[example])
            inside[index, span] = True
        row_indices = []
        for number, (back, heads_per_key) in enumerate(((from_queries, groups), (from_keys, 1))):
            head = torch.arange(key_heads)[:, None, None, None] * heads_per_key
            head = head + torch.arange(heads_per_key)[None, None, :, None]
            # [key heads, examples, groups, longest]
            rows_of_batch = tokens[None, :, None] * (key_heads * heads_per_key) + head
            is_own = inside[None, :, None].expand(rows_of_batch.shape)
            positions = torch.arange(rows_of_batch.numel()).view(rows_of_batch.shape)
            back[rows_of_batch[is_own]] = positions[is_own] + offsets[number]
            offsets[number] += rows_of_batch.numel()
            row_indices.append(rows_of_batch)
        queries, keys = row_indices
        gradients = torch.where(inside[None, :, None], queries, rows * heads)
        batches.append(_Batch(len(chosen), longest, queries.flatten(), keys.flatten(), gradients.flatten()))
    return _Layout(prompt, heads, groups, tuple(batches), from_queries, from_keys)


def _group_by_length(lengths: tuple[int, ...], prompt: int) -> Iterator[list[int]]:
    """Indices of the examples, in groups of similar length."""
    chosen: list[int] = []
    squares = 0
    for example in sorted(range(len(lengths)), key=lambda index: (-lengths[index], index)):
        square = (prompt + lengths[example]) ** 2
        padded = (len(chosen) + 1) * (prompt + lengths[chosen[0] if chosen else example]) ** 2
        is_long = chosen and prompt + lengths[chosen[0]] > BLOCK_TOKENS  # a batch of its own takes less memory
        if is_long or (chosen and padded > MAX_PADDING * (squares + square)):
            yield chosen
            chosen, squares = [], 0
        chosen.append(example)
        squares += square
    yield chosen


class _BatchedAttention(torch.autograd.Function):  # type: ignore[misc]
    """Shapes: query [tokens, heads, width], key and value [tokens, key heads, width]. Returns [tokens x heads, width]."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: _Layout, scale: float
    ) -> torch.Tensor:
        saved, outputs = [], []
        with torch.autocast("cpu", enabled=False):
            for batch in layout.batches:
                q = _gather(query, batch.queries, -1, layout.groups, batch.longest)
                k, v = (_gather(states, batch.keys, -1, batch.longest) for states in (key, value))
                k -= k.mean(
                    1, keepdim=True
                )  # a common offset of all keys changes no probability, but costs digits in bf16
                out = v.new_empty(*q.shape[:-1], v.shape[-1])
                for first, last in _blocks(batch.longest):
                    probabilities = _probabilities(q, k, first, last, scale)
                    out[:, :, first:last] = torch.bmm(probabilities, v[:, :last]).unflatten(1, (layout.groups, -1))
                saved += [q, k, v, *([probabilities] if batch.longest <= BLOCK_TOKENS else [])]
                outputs.append(out.flatten(0, 2))
        context.save_for_backward(*saved)
        context.layout, context.scale = layout, scale
        return torch.cat(outputs).index_select(0, layout.from_queries)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, by_output: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layout, scale, saved = context.layout, context.scale, iter(context.saved_tensors)
        rows = torch.cat([by_output, by_output.new_zeros(1, by_output.shape[1])])
        by_queries, by_keys, by_values = [], [], []
        for batch in layout.batches:
            q, k, v = (next(saved) for _ in range(3))
            by_out = rows.index_select(0, batch.gradients).view(*q.shape[:-1], v.shape[-1])
            by_q, by_k, by_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for first, last in _blocks(batch.longest):
                probabilities = (
                    next(saved) if batch.longest <= BLOCK_TOKENS else _probabilities(q, k, first, last, scale)
                )
                by_block = by_out[:, :, first:last].flatten(1, 2)
                by_probabilities = torch.bmm(by_block, v[:, :last].transpose(1, 2))
                by_scores = _softmax_gradient(by_probabilities, probabilities).mul_(scale)
                by_q[:, :, first:last] = torch.bmm(by_scores, k[:, :last]).unflatten(1, (layout.groups, -1))
                by_k[:, :last] += torch.bmm(by_scores.transpose(1, 2), q[:, :, first:last].flatten(1, 2))
                by_v[:, :last] += torch.bmm(probabilities.transpose(1, 2), by_block)
            by_queries.append(by_q.flatten(0, 2))
            by_keys.append(by_k)
            by_values.append(by_v)
        by_query = torch.cat(by_queries).index_select(0, layout.from_queries).unflatten(0, (-1, layout.heads))
        return by_query, _scatter_to_keys(by_keys, layout), _scatter_to_keys(by_values, layout), None, None


def _gather(states: torch.Tensor, rows: torch.Tensor, *shape: int) -> torch.Tensor:
    width = states.shape[-1]
    return states.reshape(-1, width).index_select(0, rows).view(*shape, width)


def _blocks(longest: int) -> list[tuple[int, int]]:
    """Start and end of each block of queries."""
    step = -(-longest // -(-longest // BLOCK_TOKENS))
    return [(first, min(first + step, longest)) for first in range(0, longest, step)]


def _probabilities(q: torch.Tensor, k: torch.Tensor, first: int, last: int, scale: float) -> torch.Tensor:
    """Attention probabilities of a block of queries: [key heads x examples, groups x queries, keys]."""
    scores = torch.bmm(q[:, :, first:last].flatten(1, 2), k[:, :last].transpose(1, 2)).mul_(scale)
    own = scores.unflatten(1, (-1, last - first))[..., first:]  # all keys before the block are visible
    own.masked_fill_(torch.ones(own.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))  # padding comes last
    return scores.softmax(-1)


def _softmax_gradient(by_probabilities: torch.Tensor, probabilities: torch.Tensor) -> torch.Tensor:
    """The gradient of the scores. By hand in fp32, where the last bits of PyTorch's kernel depend on the number of threads."""
    if probabilities.dtype != torch.float32:
        return torch._softmax_backward_data(by_probabilities, probabilities, -1, probabilities.dtype)
    products = by_probabilities.mul_(probabilities)
    return products.addcmul_(probabilities, products.sum(-1, keepdim=True), value=-1)


def _scatter_to_keys(by_batches: list[torch.Tensor], layout: _Layout) -> torch.Tensor:
    """Gradients [key heads x examples, longest, width] of each batch → [tokens, key heads, width]; the prompt's are summed."""
    width = by_batches[0].shape[-1]
    heads = len(by_batches[0]) // layout.batches[0].examples
    gradient = (
        torch.cat([by_batch.view(-1, width) for by_batch in by_batches])
        .index_select(0, layout.from_keys)
        .view(-1, heads, width)
    )
    if layout.prompt:
        of_prompt = [
            by_batch.view(heads, batch.examples, batch.longest, width)[:, :, : layout.prompt].sum(
                1, dtype=torch.float32
            )
            for by_batch, batch in zip(by_batches, layout.batches, strict=True)
        ]
        gradient[: layout.prompt] = torch.stack(of_prompt).sum(0).transpose(0, 1).to(gradient.dtype)
    return gradient
