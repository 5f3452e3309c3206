"""The order of prompts in `grpo`: all answers to a prompt are sampled together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class PromptSampler(Sampler[int]):  # type: ignore[misc]
    """Prompt indices, shuffled per epoch. Each index is repeated once per answer, and each group of prompts `repeats` times.

    The last group of an epoch is filled with the epoch's first prompts. The order depends on seed and epoch only, so that a resumed
    training sees the same prompts as an uninterrupted one.

    Args:
        prompts: number of prompts.
        answers: answers per prompt.
        group_prompts: prompts whose answers are sampled together: those of a global batch.
        repeats: how often TRL reads a group: once per forward pass, though it samples the answers only once.
    """

    def __init__(self, prompts: int, answers: int, group_prompts: int, repeats: int, seed: int) -> None:
        self.prompts, self.answers, self.group_prompts, self.repeats = prompts, answers, group_prompts, repeats
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        groups = -(-self.prompts // self.group_prompts)
        return groups * self.group_prompts * self.answers * self.repeats

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.prompts, generator=generator).tolist()
        padded = len(self) // (self.answers * self.repeats)
        order = [order[index % self.prompts] for index in range(padded)]
        for first in range(0, padded, self.group_prompts):
            for _ in range(self.repeats):
                for prompt in order[first : first + self.group_prompts]:
                    yield from [prompt] * self.answers
