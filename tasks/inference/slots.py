"""A key-value cache with a fixed slot for each row of a batch, and the attention that reads it.

A row's keys and values begin at position 0 of its slot, so that rows of different lengths are decoded together without padding on
the left, enter and leave between two steps, and copy the prefix that they share with another row.

The result for a row does not depend on the other rows: it is computed by plain matrix products, whose keys are padded at their end
to a multiple of KEY_TILE, with probabilities that are exactly 0 (docs/decisions/0023-generation.md).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface, Cache

SLOTS = "strop_slots"
"""The name of the attention in transformers."""
ROW_TILE = 8
"""Rows of a matrix product are padded to a multiple of it: with fewer, BLAS chooses kernels that sum in another order."""
KEY_TILE = 32
QUERIES_AT_ONCE = 128
"""Queries of a prompt that are computed together: the scores of a long prompt would take gigabytes."""


def tiles(count: int, tile: int) -> int:
    """`count`, rounded up to a multiple of `tile`."""
    return -(-count // tile) * tile


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of `slots` rows of at most `width` tokens."""

    def __init__(self, slots: int, width: int) -> None:
        super().__init__(layers=[])
        # a prompt is padded to whole tiles at its end
        self.slots, self.width = tiles(slots, ROW_TILE), tiles(width + ROW_TILE, KEY_TILE)
        self.states: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        """Layer → keys and values, [slots, heads, width, head width]."""
        self._slots: slice | torch.Tensor = slice(0)
        self._index: tuple[torch.Tensor, torch.Tensor]
        self.keys_read = 0
        """The number of keys that the next forward pass reads."""

    def write(self, slots: slice | torch.Tensor, positions: torch.Tensor, longest: int) -> None:
        """The next forward pass computes tokens at `positions`, [slots, tokens], of the rows in `slots`.

        Args:
            slots: the first slots, or the indices of some.
            longest: the largest position that is not padding. Padding may lie beyond the width: it is written to the last
                position, which no row has.
        """
        device = positions.device
        rows = torch.arange(slots.stop, device=device) if isinstance(slots, slice) else slots
        self._slots, self._index = slots, (rows[:, None], positions.clamp(max=self.width - 1))
        self.keys_read = min(tiles(longest + 1, KEY_TILE), self.width)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx not in self.states:
            self.states[layer_idx] = (self._empty(key_states), self._empty(value_states))
        keys, values = self.states[layer_idx]
        rows, positions = self._index
        keys[rows, :, positions] = key_states.transpose(1, 2)
        values[rows, :, positions] = value_states.transpose(1, 2)
        return keys[self._slots, :, : self.keys_read], values[self._slots, :, : self.keys_read]

    def _empty(self, states: torch.Tensor) -> torch.Tensor:
        """Zeros, not uninitialised memory: 0 x NaN is NaN."""
        return states.new_zeros(self.slots, states.shape[1], self.width, states.shape[3])

    def copy(self, source: int, target: int, tokens: int) -> None:
        """Copies the first tokens of a slot to another."""
        for keys, values in self.states.values():
            keys[target, :, :tokens] = keys[source, :, :tokens]
            values[target, :, :tokens] = values[source, :, :tokens]

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
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of a forward pass with a SlotCache. Shapes: query [rows, heads, queries, width]; key and value
    [rows, key heads, keys, width]; attention_mask [rows, 1, queries, keys], to be added to the scores.

    Returns:
        [rows, queries, heads, value's width].

    Raises:
        ValueError: the model adds attention sinks (support.py: such models are decoded by `generate`).
    """
    if kwargs.get("s_aux") is not None:
        raise ValueError("attention sinks are not computed with slots")
    rows, heads, queries, width = query.shape
    grouped = (query * (width**-0.5 if scaling is None else scaling)).unflatten(1, (key.shape[1], -1))
    spans = [slice(first, first + QUERIES_AT_ONCE) for first in range(0, queries, QUERIES_AT_ONCE)]
    blocks = [_attend(grouped[:, :, :, span], key, value, attention_mask[:, :, span], softcap) for span in spans]
    attended = blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)
    return attended.permute(0, 3, 1, 2, 4).reshape(rows, queries, heads, -1), None


def _attend(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor, softcap: float | None
) -> torch.Tensor:
    """Shapes: query [rows, key heads, groups, queries, width]."""
    groups, queries = query.shape[2:4]
    scores = torch.matmul(query.flatten(2, 3), key.transpose(-1, -2)).unflatten(2, (groups, queries)).float()
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    probabilities = torch.softmax(scores + mask.unsqueeze(2), dim=-1).to(value.dtype)
    return torch.matmul(probabilities.flatten(2, 3), value).unflatten(2, (groups, queries))


AttentionInterface.register(SLOTS, attend)
