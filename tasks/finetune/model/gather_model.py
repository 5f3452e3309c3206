"""Gathers the full model from the shards of FSDP or DeepSpeed."""

from __future__ import annotations

from typing import Any

from tasks.errors import TrainingError
from tasks.finetune.model.build import build_model
from tasks.finetune.model.save import labels_of_model
from tasks.finetune.process_group import is_rank_zero, is_sharded
from tasks.finetune.work import Work


def sharding_strategy(trainer: Any) -> str:
    """The active sharding strategy, by the names of `finetune.launch.strategy`.

    Raises:
        TrainingError: sharding was requested, but is not active.
    """
    if trainer.is_fsdp_enabled:
        return "fsdp"
    if trainer.is_deepspeed_enabled:
        return "deepspeed"
    if is_sharded():
        what = "accelerate did not shard the model over the processes"
        raise TrainingError(what, where="finetune.launch", fix="Set strategy: ddp, or fix its configuration")
    return "ddp"


def gather_full_model(trainer: Any, work: Work) -> Any:
    """The trained model. If it is sharded, all processes must call this, and only rank 0 gets the model."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return trainer.model
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not is_rank_zero():
        return None
    inner = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    model = build_model(work, labels=labels_of_model(inner))
    model.load_state_dict({name.replace("_checkpoint_wrapped_module.", ""): value for name, value in state.items()})
    return model
