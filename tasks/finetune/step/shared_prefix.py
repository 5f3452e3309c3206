"""The shared prompt prefix of all examples in a batch, computed once.

Examples share the first tokens of the chat template and the prompt template: 24 of about 90 tokens with SmolLM2's system turn. In a
causal model the states of these tokens do not depend on later ones, so they are the same in each example; only attention is
computed for each example with the prompt before it. Loss and gradient equal those of single examples (a test).

This requires that an example reads its prompt through attention only, and that the attention is ours (packing_probe.py checks the
model). Convolutions and recurrent layers would continue from the previous answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tasks.finetune.settings import TrainingSettings

MIN_SHARED_TOKENS = 8
"""Shorter prompts are not worth the overhead."""
IGNORED = -100


def may_share(settings: TrainingSettings, learns_all: bool) -> bool:
    """Is the prompt computed identically for each example? Not with dropout or noise, or if it has a loss itself; and a GPU's
    variable-length attention does not support it."""
    lora = settings.lora.dropout if settings.method in ("lora", "dora", "qlora") else 0.0
    is_random = settings.dropout or lora or settings.neftune_alpha
    return not is_random and not learns_all and not torch.cuda.is_available()


def share_prompt(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of `packed_attention.collate` without the repetitions of its shared prompt.

    Returns:
        The same, but the first sequence in `cu_seq_lens_q` is the prompt, the others are the rest of each example, and the first
        boundary is minus the prompt's length: one argument cannot be lost on the way to the attention. Unchanged where too little
        is shared.
    """
    edges = batch["cu_seq_lens_q"].long()
    length = _shared_tokens(batch["input_ids"][0], batch["labels"][0], edges)
    if length < MIN_SHARED_TOKENS:
        return batch
    is_kept = torch.ones(int(edges[-1]), dtype=torch.bool)
    is_kept[(edges[1:-1, None] + torch.arange(length)).flatten()] = False
    own = torch.diff(edges) - length
    starts = torch.cumsum(torch.cat([torch.tensor([0, length]), own]), 0)
    starts[0] = -length
    shorter = {name: batch[name][:, is_kept] for name in ("input_ids", "position_ids", "labels")}
    return {**batch, **shorter, "cu_seq_lens_q": starts.int()}


def prompt_tokens(edges: torch.Tensor) -> int:
    """The length of the shared prompt; 0 without one."""
    return -int(edges[0])


def repeated_tokens(edges: torch.Tensor) -> int:
    """Number of prompt tokens whose computation is saved in a batch."""
    return prompt_tokens(edges) * (len(edges) - 3)


def predicting_positions(trained: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """The position that predicts each trained token: the one before it, or the end of the shared prompt."""
    prompt = prompt_tokens(edges)
    return (trained - 1).masked_fill(torch.isin(trained, edges), prompt - 1) if prompt else trained - 1


def whole_examples(states: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """States of [prompt, rest, rest, ...], of these lengths, with the prompt before each rest: [1, heads, tokens, width]."""
    prompt, *rests = states.split(lengths, 2)
    return torch.cat([part for rest in rests for part in (prompt, rest)], 2)


def without_repetitions(attended: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The inverse, for [tokens, heads, width]: keeps the prompt of the first example."""
    prompt = lengths[0]
    first, *others = attended.split([prompt + length for length in lengths[1:]])
    return torch.cat([first, *(other[prompt:] for other in others)])


def _shared_tokens(ids: torch.Tensor, labels: torch.Tensor, edges: torch.Tensor) -> int:
    """Length of the longest common prefix without a loss; at least one token of each example remains."""
    if len(edges) < 3:
        return 0
    trained = torch.cat([(labels != IGNORED).nonzero()[:, 0], edges[-1:]])
    first_trained = torch.minimum(trained[torch.searchsorted(trained, edges[:-1])], edges[1:])
    most = int(torch.minimum(first_trained - edges[:-1], torch.diff(edges) - 1).min())
    prefixes = ids[edges[:-1, None] + torch.arange(most)]
    differs = (prefixes != prefixes[0]).any(0).nonzero()[:, 0]
    return int(differs[0]) if len(differs) else most
