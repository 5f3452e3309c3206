"""Settings of `finetune.launch`: the processes of a training."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=1)]


class LaunchSettings(Settings):
    processes: Count = 1
    """Processes per node: one per GPU. They share the global batch, whose size does not change: `gradient_accumulation_steps` must
    be a multiple of the number of all processes."""
    nodes: Count = 1
    """Machines with a shared file system. On the others: `STROP_NODE=1 python -m tasks finetune`, then 2, 3, …"""
    address: str | None = None
    """Rendezvous address, as `host:port` of the first node. Not needed for one node."""
    strategy: Literal["ddp", "fsdp", "deepspeed"] = "ddp"
    """`ddp`: each process holds the full model. `fsdp`, `deepspeed`: weights, gradients and optimiser states are sharded as
    `config` defines."""
    config: str | None = None
    """For `fsdp` and `deepspeed`: a file written by `accelerate config`; its `fsdp_config` or `deepspeed_config` is used."""

    @property
    def all_processes(self) -> int:
        """On all nodes."""
        return self.processes * self.nodes

    @model_validator(mode="after")
    def is_valid(self) -> "LaunchSettings":
        if (self.nodes > 1) != (self.address is not None):
            raise ValueError(
                "`address` (host:port of the first node) is required for several nodes, and only allowed there"
            )
        host, _, port = (self.address or "node:1").rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"`address` is {self.address}, but should be host:port, with a port from 1 to 65535")
        if (self.strategy == "ddp") != (self.config is None):
            raise ValueError(
                "`config` (an accelerate file) is required for strategy: fsdp and deepspeed, and only allowed there"
            )
        if self.all_processes == 1 and self.strategy != "ddp":
            raise ValueError(
                f"strategy: {self.strategy} shards a model over several processes, but there is one process"
            )
        return self
