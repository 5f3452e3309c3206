"""Settings of `finetune.launch`: in how many processes a training runs."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.runtime.base_settings import Settings

Count = Annotated[int, Field(ge=1)]


class LaunchSettings(Settings):
    processes: Count = 1
    """Processes on each node: one a GPU. They share the global batch, which stays as it is: `gradient_accumulation_steps` has to be
    a multiple of all processes."""
    nodes: Count = 1
    """Machines, with one file system. On each but the first: `STROP_NODE=1 python -m tasks finetune`, counted on."""
    address: str | None = None
    """Where the processes meet, as `host:port`: an address of the first node. One node needs none."""
    strategy: Literal["ddp", "fsdp", "deepspeed"] = "ddp"
    """`ddp`: each process holds the whole model. `fsdp`, `deepspeed`: weights, gradients and optimiser are shared out, as `config`
    says."""
    config: str | None = None
    """For `fsdp` and `deepspeed`: a file as `accelerate config` writes it; `fsdp_config` and `deepspeed_config` in it count."""

    @property
    def all_processes(self) -> int:
        """On all nodes."""
        return self.processes * self.nodes

    @model_validator(mode="after")
    def is_whole(self) -> "LaunchSettings":
        if (self.nodes > 1) != (self.address is not None):
            raise ValueError("`address` (host:port of the first node) belongs to several nodes, and is needed there")
        host, _, port = (self.address or "node:1").rpartition(":")
        if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 2**16:
            raise ValueError(f"`address` is {self.address}, but should be host:port, with a port from 1 to 65535")
        if (self.strategy == "ddp") != (self.config is None):
            raise ValueError(
                "`config` (a file of accelerate's) belongs to strategy: fsdp and deepspeed, and is needed there"
            )
        if self.all_processes == 1 and self.strategy != "ddp":
            raise ValueError(f"strategy: {self.strategy} shares a model out among processes; there is one")
        return self
