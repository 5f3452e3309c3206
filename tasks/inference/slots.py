"""A key-value cache with a fixed slot for each row of a batch, and the attention that reads it.

A row's keys and values begin at position 0 of its slot, so that rows of different lengths are decoded together without padding on
the left, enter and leave between two steps, and copy the prefix that they share with another row.

The result for a row does not depend on the other rows: it is computed by plain matrix products, whose keys are padded at their end
to a multiple of KEY_TILE, with probabilities that are exactly 0, and whose values are summed in blocks of KEYS_AT_ONCE keys
(docs/decisions/0023-generation.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, Cache

SLOTS = "strop_slots"
"""The name of the attention in transformers."""
LEAST_TOKENS = 8
"""Tokens of a forward pass are padded to it: for fewer, BLAS chooses kernels that sum in another order."""
QUERY_TILE = 8
"""Queries of each prompt are padded to a multiple of it, for the same reason."""
KEY_TILE = 16
QUERIES_AT_ONCE = 128
"""Queries of a prompt that are computed together: the scores of a long prompt would take gigabytes."""
KEYS_AT_ONCE = 128
"""Values of so many keys are summed by one matrix product: BLAS splits a longer sum at a place that depends on its length, so that
the last bits of a row would depend on the longest row beside it."""


def tiles(count: int, tile: int) -> int:
    """`count`, rounded up to a multiple of `tile`."""
    return -(-count // tile) * tile


@dataclass(frozen=True)
class Layout:
    """Where the queries of prompts, padded to one length for attention, are among the tokens of a forward pass."""

    tokens: torch.Tensor
    """The token of each query, [rows, queries]; any token for padding."""
    queries: torch.Tensor
    """The query of each token, an index of the flattened rows and queries; any query for padding."""

    @classmethod
    def of(cls, is_token: torch.Tensor, padding: int) -> Layout:
        """Args: is_token: which queries are tokens, [rows, queries]; padding: tokens after the last one."""
        places = is_token.flatten().cumsum(0) - 1
        queries = is_token.flatten().nonzero()[:, 0]
        return cls(places.view_as(is_token) * is_token, torch.cat([queries, queries.new_zeros(padding)]))


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of `slots` rows of at most `width` tokens."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__(layers=[])
        # the last position takes the padding of short passes
        self.slots, self.width = max(slots, LEAST_TOKENS), tiles(width + 1, KEY_TILE)
        self.states: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """Layer → keys and values, [slots, heads, width, head width]."""
        self._read: slice | torch.Tensor = slice(0)
        self._index: tuple[torch.Tensor, torch.Tensor]
        self.keys_read = 0
        """The number of keys that the next forward pass reads."""

    def write(self, rows: torch.Tensor, positions: torch.Tensor, read: slice | torch.Tensor, longest: int) -> None:
        """The next forward pass computes tokens at `positions` of the slots `rows`, both [tokens].

        Args:
            read: the slots that attention reads: the first ones, or the indices of some.
            longest: the largest position that is not padding.
        """
        self._index, self._read = (rows, positions), read
        self.keys_read = self.keys_of(longest)

    def keys_of(self, position: int) -> int:
        """The number of keys that attention reads for rows up to this position."""
        return min(tiles(position + 1, KEY_TILE), self.width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx not in self.states:
            self.states[layer_idx] = (self._empty(key_states), self._empty(value_states))
        keys, values = self.states[layer_idx]
        rows, positions = self._index
        keys[rows, :, positions] = key_states[0].transpose(0, 1)
        values[rows, :, positions] = value_states[0].transpose(0, 1)
        return keys[self._read, :, : self.keys_read], values[self._read, :, : self.keys_read]

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        """Zeros, not uninitialised memory: 0 x NaN is NaN."""
        return states.new_zeros(self.slots, states.shape[1], self.width, states.shape[3])

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copies the first tokens of a slot to another."""
        for keys, values in self.states.values():
            keys[target, :, :tokens] = keys[source, :, :tokens]
            values[target, :, :tokens] = values[source, :, :tokens]

    def resize(self, slots: int, width: int) -> None:
        """Gives the cache another size. The tokens of slots that still exist are kept, up to the new width."""
        self.slots, self.width = max(slots, LEAST_TOKENS), tiles(width + 1, KEY_TILE)
        for layer, states in self.states.items():  # one at a time: memory for both sizes of one layer only
            self.states[layer] = (self._resized(states[0]), self._resized(states[1]))

    def _resized(self, states: torch.Tensor) -> torch.Tensor:
        resized = states.new_zeros(self.slots, states.shape[1], self.width, states.shape[3])
        slots, width = min(self.slots, states.shape[0]), min(self.width, states.shape[2])
        resized[:slots, :, :width] = states[:slots, :, :width]
        return resized

    def clear(self, slot: int) -> None:
        """Removes values that are not finite: a probability of 0 times NaN is NaN for the next row in the slot."""
        for keys, values in self.states.values():
            keys[slot].zero_()
            values[slot].zero_()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Not used: the decoder passes positions and masks."""
        return 0


def attend(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    softcap: float | None = None,
    slot_layout: Layout | None = None,
    slot_spans: Sequence[tuple[slice, int]] = (),
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a forward pass with a SlotCache. Shapes: query [1, heads, tokens, width]; key and value
    [rows, key heads, keys, width]; attention_mask [rows, 1, queries, keys], to be added to the scores.

    Args:
        slot_layout: of prompts; None: one token of each row.
        slot_spans: groups of rows with the number of keys that they have, if there is one token of each row.

    Returns:
        [1, tokens, heads, value's width].

    Raises:
        ValueError: the model adds attention sinks (support.py: such models are decoded by `generate`), or does not pass the
            layout on.
    """
    if kwargs.get("s_aux") is not None:
        raise ValueError("attention sinks are not computed with slots")
    if slot_layout is None and query.shape[2] != key.shape[0]:
        raise ValueError("the layout of the slots was not passed to the attention")
    heads, _, width = query.shape[1:]
    flat = query[0].transpose(0, 1) * (width**-0.5 if scaling is None else scaling)
    rows = flat[:, None] if slot_layout is None else flat[slot_layout.tokens]
    queries = rows.shape[1]
    grouped = rows.transpose(1, 2).unflatten(1, (key.shape[1], -1))
    if slot_spans:
        parts = [
            (grouped[span], key[span, :, :keys], value[span, :, :keys], attention_mask[span, ..., :keys])
            for span, keys in slot_spans
        ]
        attended = torch.cat([_attend(*part, softcap) for part in parts])
    else:
        spans = [slice(first, first + QUERIES_AT_ONCE) for first in range(0, queries, QUERIES_AT_ONCE)]
        blocks = [_attend(grouped[:, :, :, span], key, value, attention_mask[:, :, span], softcap) for span in spans]
        attended = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)
    attended = attended.permute(0, 3, 1, 2, 4).reshape(len(rows) * queries, heads, -1)
    return (attended if slot_layout is None else attended[slot_layout.queries])[None], None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, softcap: float | None
) -> torch.Tensor:
    """Shapes: query [rows, key heads, groups, queries, width]."""
    groups, queries = query.shape[2:4]
    scores = torch.matmul(query.flatten(2, 3), key.transpose(-1, -2)).unflatten(2, (groups, queries)).float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    probabilities = torch.softmax(scores + mask.unsqueeze(2), dim=-1).to(value.dtype).flatten(2, 3)
    attended = torch.matmul(probabilities[..., :KEYS_AT_ONCE], value[:, :, :KEYS_AT_ONCE])
    for first in range(KEYS_AT_ONCE, value.shape[2], KEYS_AT_ONCE):
        keys = slice(first, first + KEYS_AT_ONCE)
        attended = attended + torch.matmul(probabilities[..., keys], value[:, :, keys])
    return attended.unflatten(2, (groups, queries))


@contextmanager
def use_slots(model: Any) -> Iterator[None]:
    """Lets the model compute its attention from a SlotCache."""
    before = model.config._attn_implementation
    model.config._attn_implementation = SLOTS
    try:
        yield
    finally:
        model.config._attn_implementation = before


AttentionInterface.register(SLOTS, attend)
