"""A model that FSDP or DeepSpeed shared out among processes, whole again."""

from __future__ import annotations

from typing import Any

from tasks.errors import TrainingError
from tasks.finetune.model.build import build_model
from tasks.finetune.model.save import labels_of_model
from tasks.finetune.process_group import is_first, is_sharded
from tasks.finetune.work import Work


def strategy_of(trainer: Any) -> str:
    """How the processes share the model: by the names of `finetune.launch.strategy`.

    Raises:
        TrainingError: it was to be shared out, and is not.
    """
    if trainer.is_fsdp_enabled:
        return "fsdp"
    if trainer.is_deepspeed_enabled:
        return "deepspeed"
    if is_sharded():
        what = "accelerate did not share the model out among the processes"
        raise TrainingError(what, where="finetune.launch", fix="Set strategy: ddp, or mend its configuration")
    return "ddp"


def whole_model(trainer: Any, work: Work) -> Any:
    """The trained model; where it is shared out, all processes come here, and the first gets it whole."""
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        return trainer.model
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not is_first():
        return None
    inner = trainer.accelerator.unwrap_model(trainer.model_wrapped)
    model = build_model(work, labels=labels_of_model(inner))
    model.load_state_dict({name.replace("_checkpoint_wrapped_module.", ""): value for name, value in state.items()})
    return model
