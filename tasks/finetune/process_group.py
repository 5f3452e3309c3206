"""The processes that train together: which of them this is, and what they agree upon. A training alone is the first of one."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch

Value = TypeVar("Value")


def process_count() -> int:
    """How many train together, on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_number() -> int:
    """Which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Is it this one that tells, saves and writes?"""
    return process_number() == 0


def processes_here() -> int:
    """How many of them share this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def wait_for_all() -> None:
    """Returns when every process has come here."""
    if _are_joined():
        torch.distributed.barrier()


def highest(number: int) -> int:
    """The highest of the numbers that the processes come with: all of them call it, at the same place of their work."""
    if not _are_joined():
        return number
    told = torch.tensor(number, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(told, torch.distributed.ReduceOp.MAX)
    return int(told)


def as_first_says(value: Value) -> Value:
    """What the first process came with."""
    if not _are_joined():
        return value
    told = [value]
    torch.distributed.broadcast_object_list(told)
    return told[0]


def from_all(value: Value) -> list[Value]:
    """What each process came with, in their order."""
    if not _are_joined():
        return [value]
    told: list[Any] = [None] * process_count()
    torch.distributed.all_gather_object(told, value)
    return told


@contextlib.contextmanager
def first_before_others(device: str) -> Iterator[None]:
    """The first process goes through the block, then the others; the group is formed where it was not."""
    if process_count() == 1:
        yield
        return
    from accelerate import PartialState

    PartialState(cpu=device == "cpu")
    if not is_first():
        wait_for_all()
    yield
    if is_first():
        wait_for_all()


def leave() -> None:
    """Ends the group; without it a process may end while another still listens to it."""
    if _are_joined():
        torch.distributed.destroy_process_group()


def _are_joined() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized() and process_count() > 1


def is_sharded() -> bool:
    """Are the weights of the model shared out among the processes (FSDP, DeepSpeed)?"""
    return any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("FSDP", "DEEPSPEED"))
