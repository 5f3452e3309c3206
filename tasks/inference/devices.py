"""The embedded engine on several GPUs: a process for each, which loads the weights and decodes its share of the rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from tasks.base.generation import Answer
from tasks.inference.embedded import EmbeddedEngine, answers_of
from tasks.inference.engine import OnAnswers, ignore_answers
from tasks.inference.worker_processes import Emit, Take, decode_on_devices
from tasks.runtime.threads import Threads

logger = logging.getLogger(__name__)


def gpus() -> list[str]:
    """The names of the GPUs that this process may use."""
    return [f"cuda:{number}" for number in range(torch.cuda.device_count())] if torch.cuda.is_available() else []


@dataclass(frozen=True)
class DeviceJob:
    """The work of one process. It is pickled."""

    load: Callable[[], Any]
    """Loads the model, on the current GPU."""
    tokenizer: Any
    stage: str
    rows: int
    positions: int | None
    prompts: Sequence[Sequence[int]]
    max_new_tokens: int
    ends: Sequence[int]

    def __call__(self, device: str, take: Take, emit: Emit) -> None:
        if device != "cpu":
            torch.cuda.set_device(device)
        engine = EmbeddedEngine(
            self.load(), self.tokenizer, stage=self.stage, rows=self.rows, threads=Threads(self.stage, is_quiet=True),
            positions=self.positions,
        )  # fmt: skip
        with engine.decoding(self.prompts, self.max_new_tokens, self.ends) as decode:
            decode(take, emit)


@dataclass(frozen=True)
class DevicesEngine:
    """Generates on several devices.

    Args:
        load: loads the model; pickled.
        ends: the tokens at which an answer ends.
        rows: rows that a process decodes at once; a process is not worth fewer.
        positions: the context of the model, in tokens; None: no limit.
    """

    load: Callable[[], Any]
    tokenizer: Any
    devices: Sequence[str]
    ends: Sequence[int]
    stage: str
    rows: int
    positions: int | None

    def generate(
        self, prompts: Sequence[Sequence[int]], max_new_tokens: int, on_answers: OnAnswers = ignore_answers
    ) -> list[Answer]:
        """As Engine.generate."""
        devices = self.devices[: max(1, len(prompts) // self.rows)]
        logger.info(f"{self.stage}: generates on {', '.join(devices)}, in a process each")
        job = DeviceJob(
            self.load, self.tokenizer, self.stage, self.rows, self.positions, prompts, max_new_tokens, self.ends
        )
        return answers_of(prompts, self.tokenizer, self.ends, on_answers, partial(decode_on_devices, job, devices))
