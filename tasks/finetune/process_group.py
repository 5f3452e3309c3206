"""The process group of a training: rank, world size and collective operations. One process alone has rank 0 of 1."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TypeVar

import torch

Value = TypeVar("Value")


def world_size() -> int:
    """Processes on all nodes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def process_rank() -> int:
    """Rank of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def is_rank_zero() -> bool:
    """Is this rank 0, which logs and saves?"""
    return process_rank() == 0


def barrier() -> None:
    """Returns when every process has called it."""
    if _is_group_initialized():
        torch.distributed.barrier()


def max_over_ranks(number: int) -> int:
    """The maximum over all processes. A collective operation: every process calls it at the same step."""
    if not _is_group_initialized():
        return number
    maximum = torch.tensor(number, device="cuda" if torch.distributed.get_backend() == "nccl" else "cpu")
    torch.distributed.all_reduce(maximum, torch.distributed.ReduceOp.MAX)
    return int(maximum)


def broadcast_from_rank_zero(value: Value) -> Value:
    """The value of rank 0."""
    if not _is_group_initialized():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values)
    return values[0]


def gather_from_ranks(value: Value) -> list[Value]:
    """The values of all processes, by rank."""
    if not _is_group_initialized():
        return [value]
    from accelerate.utils import gather_object

    values: list[Value] = gather_object([value])
    return values


@contextlib.contextmanager
def rank_zero_first(device: str) -> Iterator[None]:
    """Rank 0 runs the block, then the others do. Initialises the group if necessary."""
    if world_size() == 1:
        yield
        return
    from accelerate import PartialState

    with PartialState(cpu=device == "cpu").main_process_first():
        yield


def destroy_group() -> None:
    """Destroys the group; otherwise a process may exit while another still waits for it."""
    if _is_group_initialized():
        torch.distributed.destroy_process_group()


def _is_group_initialized() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized() and world_size() > 1


def is_sharded() -> bool:
    """Are the model's weights sharded over the processes (FSDP, DeepSpeed)?"""
    return any(os.environ.get(f"ACCELERATE_USE_{name}", "").lower() == "true" for name in ("FSDP", "DEEPSPEED"))
