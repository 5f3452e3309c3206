"""Causal attention of examples that are not long, on a CPU: those of like length in one padded batch of plain matrix products.

PyTorch's fused kernel takes an example at a time, and its backward pass in bf16 is slow; by autograd, every step of padding,
masking and scaling is a pass over memory of its own, and another one back (docs/decisions/0005).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd.function import once_differentiable

LONGEST = {torch.bfloat16: 2048, torch.float32: 192}
"""Tokens of an example, up to which the fused kernel is slower."""
MOST_PADDING = 1.5
"""The places of a batch, over those that its examples need, both squared."""
BLOCK_TOKENS = 256
"""Queries that are computed together: those of a longer example in several blocks, each with the keys that it may see."""


def is_short(longest: int, value: torch.Tensor) -> bool:
    """Whether examples, of which the longest has so many tokens, are computed faster so than by the fused kernel."""
    return value.device.type == "cpu" and longest <= LONGEST.get(_computed_in(value), 0)


def attend_side_by_side(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prompt: int, scale: float
) -> torch.Tensor:
    """Shapes: query [1, heads, tokens, width], key and value may have fewer heads, and value a width of its own.

    Returns:
        [tokens, heads, value's width].

    Args:
        lengths: tokens of the examples, that stand one after the other; all of them.
        prompt: how many tokens at the start are those that all examples begin with, and are left out of each; then of each example
            only its own tokens count in its length.
    """
    layout = _layout(tuple(lengths), prompt, query.shape[1], key.shape[1])
    dtype = _computed_in(value)  # norms of queries and keys may have widened them
    narrow = (states[0].transpose(0, 1).to(dtype) for states in (query, key, value))
    found: torch.Tensor = _SideBySide.apply(*narrow, layout, scale)
    return found.unflatten(0, (-1, query.shape[1]))


def _computed_in(value: torch.Tensor) -> torch.dtype:
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else value.dtype


@dataclass(frozen=True)
class _Batch:
    """Examples of like length.

    Which rows of [tokens x heads, width] stand where in [key's heads x examples, groups, longest, width]; keys have no groups.
    """

    examples: int
    longest: int
    queries: torch.Tensor
    keys: torch.Tensor
    gradients: torch.Tensor
    """As `queries`, but where nothing comes back: there, a row of zeros after the last."""


@dataclass(frozen=True)
class _Layout:
    prompt: int
    heads: int
    groups: int
    """Heads of a query for one of a key."""
    batches: tuple[_Batch, ...]
    from_queries: torch.Tensor
    """For each row its place in all batches, one behind the other."""
    from_keys: torch.Tensor


@functools.lru_cache(maxsize=4)
def _layout(lengths: tuple[int, ...], prompt: int, heads: int, key_heads: int) -> _Layout:
    starts = list(itertools.accumulate(lengths, initial=prompt))
    groups, rows = heads // key_heads, starts[-1]
    from_queries, from_keys = (torch.empty(rows * count, dtype=torch.long) for count in (heads, key_heads))
    batches: list[_Batch] = []
    places = [0, 0]
    for chosen in _alike(lengths, prompt):
        longest = prompt + max(lengths[example] for example in chosen)
        tokens = torch.zeros(len(chosen), longest, dtype=torch.long)
        tokens[:, :prompt] = torch.arange(prompt)
        inside = torch.zeros(len(chosen), longest, dtype=torch.bool)
        inside[0, :prompt] = not batches  # of what the prompt says of itself, one is as good as another
        for place, example in enumerate(chosen):
            span = slice(prompt, prompt + lengths[example])
            tokens[place, span] = torch.arange(starts[example], starts[example] + lengths[example])
            inside[place, span] = True
        found = []
        for number, (back, of_key) in enumerate(((from_queries, groups), (from_keys, 1))):
            head = torch.arange(key_heads)[:, None, None, None] * of_key + torch.arange(of_key)[None, None, :, None]
            of_batch = tokens[None, :, None] * (key_heads * of_key) + head  # [key's heads, examples, groups, longest]
            is_own = inside[None, :, None].expand(of_batch.shape)
            back[of_batch[is_own]] = torch.arange(of_batch.numel()).view(of_batch.shape)[is_own] + places[number]
            places[number] += of_batch.numel()
            found.append(of_batch)
        queries, keys = found
        gradients = torch.where(inside[None, :, None], queries, rows * heads)
        batches.append(_Batch(len(chosen), longest, queries.flatten(), keys.flatten(), gradients.flatten()))
    return _Layout(prompt, heads, groups, tuple(batches), from_queries, from_keys)


def _alike(lengths: tuple[int, ...], prompt: int) -> Iterator[list[int]]:
    """The examples, those of like length together."""
    chosen: list[int] = []
    squares = 0
    for example in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        square = (prompt + lengths[example]) ** 2
        places = (len(chosen) + 1) * (prompt + lengths[chosen[0] if chosen else example]) ** 2
        is_long = chosen and prompt + lengths[chosen[0]] > BLOCK_TOKENS  # alone, it takes less memory
        if is_long or (chosen and places > MOST_PADDING * (squares + square)):
            yield chosen
            chosen, squares = [], 0
        chosen.append(example)
        squares += square
    yield chosen


class _SideBySide(torch.autograd.Function):  # type: ignore[misc]
    """Shapes: query [tokens, heads, width], key and value [tokens, key's heads, width]. Returns [tokens x heads, width]."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: _Layout, scale: float
    ) -> torch.Tensor:
        kept, mixed = [], []
        with torch.autocast("cpu", enabled=False):
            for batch in layout.batches:
                q = _gather(query, batch.queries, -1, layout.groups, batch.longest)
                k, v = (_gather(states, batch.keys, -1, batch.longest) for states in (key, value))
                k -= k.mean(1, keepdim=True)  # what all keys have in common changes no share, but costs digits in bf16
                out = v.new_empty(*q.shape[:-1], v.shape[-1])
                for first, last in _blocks(batch.longest):
                    shares = _shares(q, k, first, last, scale)
                    out[:, :, first:last] = torch.bmm(shares, v[:, :last]).unflatten(1, (layout.groups, -1))
                kept += [q, k, v, *([shares] if batch.longest <= BLOCK_TOKENS else [])]
                mixed.append(out.flatten(0, 2))
        context.save_for_backward(*kept)
        context.layout, context.scale = layout, scale
        return torch.cat(mixed).index_select(0, layout.from_queries)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(context: Any, by_mixed: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layout, scale, kept = context.layout, context.scale, iter(context.saved_tensors)
        rows = torch.cat([by_mixed, by_mixed.new_zeros(1, by_mixed.shape[1])])
        by_queries, by_keys, by_values = [], [], []
        for batch in layout.batches:
            q, k, v = (next(kept) for _ in range(3))
            by_out = rows.index_select(0, batch.gradients).view(*q.shape[:-1], v.shape[-1])
            by_q, by_k, by_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for first, last in _blocks(batch.longest):
                shares = next(kept) if batch.longest <= BLOCK_TOKENS else _shares(q, k, first, last, scale)
                by_block = by_out[:, :, first:last].flatten(1, 2)
                by_shares = torch.bmm(by_block, v[:, :last].transpose(1, 2))
                by_scores = _softmax_gradient(by_shares, shares).mul_(scale)
                by_q[:, :, first:last] = torch.bmm(by_scores, k[:, :last]).unflatten(1, (layout.groups, -1))
                by_k[:, :last] += torch.bmm(by_scores.transpose(1, 2), q[:, :, first:last].flatten(1, 2))
                by_v[:, :last] += torch.bmm(shares.transpose(1, 2), by_block)
            by_queries.append(by_q.flatten(0, 2))
            by_keys.append(by_k)
            by_values.append(by_v)
        by_query = torch.cat(by_queries).index_select(0, layout.from_queries).unflatten(0, (-1, layout.heads))
        return by_query, _back_to_keys(by_keys, layout), _back_to_keys(by_values, layout), None, None


def _gather(states: torch.Tensor, rows: torch.Tensor, *shape: int) -> torch.Tensor:
    width = states.shape[-1]
    return states.reshape(-1, width).index_select(0, rows).view(*shape, width)


def _blocks(longest: int) -> list[tuple[int, int]]:
    """From which query to which they are computed together."""
    step = -(-longest // -(-longest // BLOCK_TOKENS))
    return [(first, min(first + step, longest)) for first in range(0, longest, step)]


def _shares(q: torch.Tensor, k: torch.Tensor, first: int, last: int, scale: float) -> torch.Tensor:
    """How much each query of a block attends to each key: [key's heads x examples, groups x queries, keys]."""
    scores = torch.bmm(q[:, :, first:last].flatten(1, 2), k[:, :last].transpose(1, 2)).mul_(scale)
    own = scores.unflatten(1, (-1, last - first))[..., first:]  # of what stands before the block, all is seen
    own.masked_fill_(torch.ones(own.shape[-2:], dtype=torch.bool).triu(1), float("-inf"))  # padding stands last
    return scores.softmax(-1)


def _softmax_gradient(by_shares: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """The gradient by the scores. In fp32 by hand: the last bits of PyTorch's kernel there depend on the number of threads."""
    if shares.dtype != torch.float32:
        return torch._softmax_backward_data(by_shares, shares, -1, shares.dtype)
    products = by_shares.mul_(shares)
    return products.addcmul_(shares, products.sum(-1, keepdim=True), value=-1)


def _back_to_keys(by_batches: list[torch.Tensor], layout: _Layout) -> torch.Tensor:
    """[key's heads x examples, longest, width] each -> [tokens, key's heads, width]; what all say of the prompt is summed."""
    width = by_batches[0].shape[-1]
    heads = len(by_batches[0]) // layout.batches[0].examples
    found = (
        torch.cat([each.view(-1, width) for each in by_batches])
        .index_select(0, layout.from_keys)
        .view(-1, heads, width)
    )
    if layout.prompt:
        of_prompt = [
            each.view(heads, batch.examples, batch.longest, width)[:, :, : layout.prompt].sum(1, dtype=torch.float32)
            for each, batch in zip(by_batches, layout.batches, strict=True)
        ]
        found[: layout.prompt] = torch.stack(of_prompt).sum(0).transpose(0, 1).to(found.dtype)
    return found
