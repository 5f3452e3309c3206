"""In which order prompts are answered, so that all answers to one are made together."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch.utils.data import Sampler


class PromptGroups(Sampler[int]):  # type: ignore[misc]
    """Places of prompts, shuffled an epoch; each as often as it is answered, and each group of prompts as often as it is asked for.

    The last group of an epoch is filled up with its first prompts. The order follows from seed and epoch alone: a training that
    goes on from a checkpoint sees the prompts of the uninterrupted one.

    Args:
        prompts: how many there are.
        answers: to each.
        group_prompts: prompts that are answered at once: those of a global batch.
        times: how often a group is asked for: TRL takes it anew for each forward pass, and answers it once.
    """

    def __init__(self, prompts: int, answers: int, group_prompts: int, times: int, seed: int) -> None:
        self.prompts, self.answers, self.group_prompts, self.times = prompts, answers, group_prompts, times
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        groups = -(-self.prompts // self.group_prompts)
        return groups * self.group_prompts * self.answers * self.times

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator()
        generator.manual_seed(self.seed + self.epoch)
        order = torch.randperm(self.prompts, generator=generator).tolist()
        whole = len(self) // (self.answers * self.times)
        order = [order[place % self.prompts] for place in range(whole)]
        for first in range(0, whole, self.group_prompts):
            for _ in range(self.times):
                for place in order[first : first + self.group_prompts]:
                    yield from [place] * self.answers
