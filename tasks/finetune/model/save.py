"""Gathers a trained model from its shards, and saves it: an adapter of the base, or full weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.base.load import ADAPTER, LABELS
from tasks.base.pin import BaseRecord
from tasks.errors import TrainingError
from tasks.finetune.model.build import build_model
from tasks.finetune.model.initial_weights import continues_adapter, load_start_weights
from tasks.finetune.process_group import is_rank_zero, is_sharded
from tasks.finetune.work import Work
from tasks.runtime.files import write_json


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


def save_model(model: Any, tokenizer: Any, folder: Path, work: Work) -> None:
    """Writes weights, configuration and tokenizer into `folder`; the same weights give the same bytes.

    An adapter on the base is saved alone; an adapter on other weights is merged into them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    labels = labels_of_model(model)
    if not hasattr(model, "peft_config"):
        _save_full(_full_weights(model, work), folder)
    elif work.start is None or continues_adapter(work):
        _save_adapter(model, folder, work.record)
    else:
        _save_full(_merge_adapter(model, work), folder)
    if labels is not None:
        write_json(folder / LABELS, list(labels))
    tokenizer.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path, record: BaseRecord) -> None:
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's model card, which holds its version
    path = folder / ADAPTER
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save"):  # sets, whose order differs between runs
        if isinstance(config.get(name), list):
            config[name].sort()
    config["base_model_name_or_path"] = record.id
    write_json(path, config)


def _save_full(model: Any, folder: Path) -> None:
    model.set_attn_implementation("sdpa")
    model.config.use_cache = True
    model.save_pretrained(folder)


def _full_weights(model: Any, work: Work) -> Any:
    """All weights in fp32; frozen ones as in the start, before they were narrowed for training."""
    trained = {name: value.data for name, value in model.named_parameters() if value.requires_grad}
    if len(trained) == len(list(model.named_parameters())):
        return model
    full = load_start_weights(work, "fp32", labels=labels_of_model(model)).cpu()
    full.load_state_dict(trained, strict=False)
    return full


def _merge_adapter(model: Any, work: Work) -> Any:
    """The start's weights in fp32 with the trained adapter merged in, before they were narrowed for training."""
    from peft import PeftModel

    folder = work.checkpoints / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    start = load_start_weights(work, "fp32", labels=labels_of_model(model))
    return PeftModel.from_pretrained(start, str(folder)).merge_and_unload()


def labels_of_model(model: Any) -> tuple[str, ...] | None:
    """The labels of a classification or reward head; None for a causal LM."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    has_labels = inner.get_output_embeddings() is None
    return tuple(inner.config.id2label.values()) if has_labels else None
