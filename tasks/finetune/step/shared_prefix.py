"""The prompt that all examples of a batch begin with, computed once.

Examples share what the chat template and the instruction template write first: 24 of about 90 tokens with SmolLM2's own system
turn. In a causal model these tokens' states do not depend on what follows, so they are the same in each example; only attention is
computed for every example as if its prompt stood before it. Loss and gradient are those of the examples one by one (a test).

That holds where an example meets its prompt in attention alone, and that attention is ours (packing_probe.py tries the model).
Convolutions and recurrent layers would go on from the answer before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from tasks.finetune.settings import TrainingSettings

LEAST_TOKENS = 8
"""Shorter prompts are not worth their bookkeeping."""
IGNORED = -100


def may_share(settings: TrainingSettings, learns_all: bool) -> bool:
    """Is the prompt of every example the same computation? Not where chance differs from example to example, or where it is learned
    itself; and a GPU's attention of variable lengths does not know of it."""
    lora = settings.lora.dropout if settings.method in ("lora", "dora", "qlora") else 0.0
    by_chance = settings.dropout or lora or settings.neftune_alpha
    return not by_chance and not learns_all and not torch.cuda.is_available()


def share_prompt(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch of `packed.collate` without the repetitions of the prompt that its examples share.

    Returns:
        The same, but the first sequence in `cu_seq_lens_q` is the prompt, the others are the rest of each example, and the first
        edge is minus the prompt's length: what attention is told by one argument cannot be handed on in part. Unchanged where
        too little is shared.
    """
    edges = batch["cu_seq_lens_q"].long()
    length = _shared_tokens(batch["input_ids"][0], batch["labels"][0], edges)
    if length < LEAST_TOKENS:
        return batch
    kept = torch.ones(int(edges[-1]), dtype=torch.bool)
    kept[(edges[1:-1, None] + torch.arange(length)).flatten()] = False
    own = torch.diff(edges) - length
    starts = torch.cumsum(torch.cat([torch.tensor([0, length]), own]), 0)
    starts[0] = -length
    shorter = {name: batch[name][:, kept] for name in ("input_ids", "position_ids", "labels")}
    return {**batch, **shorter, "cu_seq_lens_q": starts.int()}


def prompt_tokens(edges: torch.Tensor) -> int:
    """The length of the shared prompt; 0 where none is."""
    return -int(edges[0])


def repeated_tokens(edges: torch.Tensor) -> int:
    """Tokens of a batch's examples that are not computed again."""
    return prompt_tokens(edges) * (len(edges) - 3)


def places_before(trained: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Where each trained token is predicted: one place before it, or at the end of the shared prompt."""
    prompt = prompt_tokens(edges)
    return (trained - 1).masked_fill(torch.isin(trained, edges), prompt - 1) if prompt else trained - 1


def whole_examples(states: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """States of [prompt, rest, rest, ...], of these lengths, with the prompt before each rest: [1, heads, tokens, width]."""
    prompt, *rests = states.split(lengths, 2)
    return torch.cat([part for rest in rests for part in (prompt, rest)], 2)


def without_repetitions(attended: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """The reverse, of [tokens, heads, width]: every example's prompt gives the same."""
    prompt = lengths[0]
    first, *others = attended.split([prompt + length for length in lengths[1:]])
    return torch.cat([first, *(other[prompt:] for other in others)])


def _shared_tokens(ids: torch.Tensor, labels: torch.Tensor, edges: torch.Tensor) -> int:
    """The longest beginning that all examples share, before anything is learned; of each example a token is left."""
    if len(edges) < 3:
        return 0
    trained = torch.cat([(labels != IGNORED).nonzero()[:, 0], edges[-1:]])
    first_trained = torch.minimum(trained[torch.searchsorted(trained, edges[:-1])], edges[1:])
    most = int(torch.minimum(first_trained - edges[:-1], torch.diff(edges) - 1).min())
    beginnings = ids[edges[:-1, None] + torch.arange(most)]
    differs = (beginnings != beginnings[0]).any(0).nonzero()[:, 0]
    return int(differs[0]) if len(differs) else most
