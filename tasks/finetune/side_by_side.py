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

LONGEST = {torch.bfloat16: 2048, torch.float32: 192}
"""Tokens of an example, up to which the fused kernel is slower."""
MOST_PADDING = 1.5
"""The places of a batch, over those that its examples need, both squared."""
BLOCK_TOKENS = 256
"""Queries that are computed together: those of a longer example in several blocks, each with the keys that it may see."""


def is_short(longest: int, dtype: torch.dtype) -> bool:
    """Whether examples, of which the longest has so many tokens, are computed faster so than by the fused kernel."""
    return longest <= LONGEST.get(dtype, 0)


def attend_side_by_side(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, lengths: Sequence[int], prompt: int, scale: float
) -> torch.Tensor:
    """Shapes: query [1, heads, tokens, width], key and value may have fewer heads. Returns [tokens, heads, width].

    Args:
        lengths: tokens of the examples, that stand one after the other; all of them.
        prompt: how many tokens at the start are those that all examples begin with, and are left out of each; then of each example
            only its own tokens count in its length.
    """
    layout = _layout(tuple(lengths), prompt, query.shape[1], key.shape[1])
    found: torch.Tensor = _SideBySide.apply(
        *(states[0].transpose(0, 1) for states in (query, key, value)), layout, scale
    )
    return found


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
    return _Layout(prompt, groups, tuple(batches), from_queries, from_keys)


def _alike(lengths: tuple[int, ...], prompt: int) -> Iterator[list[int]]:
    """The examples, those of like length together."""
    chosen: list[int] = []
    squares = 0
    for example in sorted(range(len(lengths)), key=lambda place: (-lengths[place], place)):
        square = (prompt + lengths[example]) ** 2
        places = (len(chosen) + 1) * (prompt + lengths[chosen[0] if chosen else example]) ** 2
        if chosen and places > MOST_PADDING * (squares + square):
            yield chosen
            chosen, squares = [], 0
        chosen.append(example)
        squares += square
    yield chosen


@functools.lru_cache(maxsize=64)
def _unseen(first: int, last: int, groups: int) -> torch.Tensor:
    """bool [groups x queries, keys]: what the queries of a block do not see. Padding stands last, so that no true query sees it."""
    return torch.ones(last - first, last, dtype=torch.bool).triu(first + 1).repeat(groups, 1)


class _SideBySide(torch.autograd.Function):  # type: ignore[misc]
    """Shapes: query [tokens, heads, width], key and value [tokens, key's heads, width]."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: _Layout, scale: float
    ) -> torch.Tensor:
        kept, mixed = [], []
        with torch.autocast("cpu", enabled=False):
            for batch in layout.batches:
                q = _gather(query, batch.queries, -1, layout.groups, batch.longest)
                k, v = (_gather(states, batch.keys, -1, batch.longest) for states in (key, value))
                out = torch.empty_like(q)
                for first, last in _blocks(batch.longest):
                    shares = _shares(q, k, first, last, scale)
                    out[:, :, first:last] = torch.bmm(shares, v[:, :last]).view(len(q), layout.groups, -1, q.shape[-1])
                kept += [q, k, v, *([shares] if batch.longest <= BLOCK_TOKENS else [])]
                mixed.append(out.view(-1, q.shape[-1]))
        context.save_for_backward(*kept)
        context.layout, context.scale = layout, scale
        return torch.cat(mixed).index_select(0, layout.from_queries).view(query.shape)

    @staticmethod
    def backward(context: Any, by_mixed: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        layout, scale, kept = context.layout, context.scale, iter(context.saved_tensors)
        rows = by_mixed.flatten(0, 1)
        rows = torch.cat([rows, rows.new_zeros(1, rows.shape[1])])
        found: list[list[torch.Tensor]] = [[], [], []]
        for batch in layout.batches:
            q, k, v = (next(kept) for _ in range(3))
            by_out = rows.index_select(0, batch.gradients).view(q.shape)
            by_q, by_k, by_v = torch.empty_like(q), None, None
            for first, last in reversed(_blocks(batch.longest)):
                shares = next(kept) if batch.longest <= BLOCK_TOKENS else _shares(q, k, first, last, scale)
                by_block = by_out[:, :, first:last].flatten(1, 2)
                by_shares = torch.bmm(by_block, v[:, :last].transpose(1, 2))
                by_scores = torch._softmax_backward_data(by_shares, shares, -1, shares.dtype).mul_(scale)
                by_q[:, :, first:last] = torch.bmm(by_scores, k[:, :last]).view(len(q), layout.groups, -1, q.shape[-1])
                more_k = torch.bmm(by_scores.transpose(1, 2), q[:, :, first:last].flatten(1, 2))
                more_v = torch.bmm(shares.transpose(1, 2), by_block)
                if by_k is None or by_v is None:
                    by_k, by_v = more_k, more_v
                else:
                    by_k[:, :last] += more_k
                    by_v[:, :last] += more_v
            for each, of_batch in zip(found, (by_q, by_k, by_v), strict=True):
                each.append(of_batch)
        by_query = torch.cat([each.view(-1, each.shape[-1]) for each in found[0]]).index_select(0, layout.from_queries)
        return by_query.view(by_mixed.shape), *(_back_to_keys(each, layout) for each in found[1:]), None, None


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
    return scores.masked_fill_(_unseen(first, last, q.shape[1]), float("-inf")).softmax(-1)


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
