"""The model that is trained (adapters on a frozen base, or all weights), and its folder once trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tasks.base.load import Precision, load_base
from tasks.base.resolve import BaseRecord
from tasks.errors import TrainingError
from tasks.files import write_json
from tasks.finetune.packed import use_packed_attention
from tasks.finetune.settings import FinetuneSettings


def build_model(record: BaseRecord, settings: FinetuneSettings, precision: Precision) -> Any:
    """The base, ready to be trained as `settings` say.

    Frozen weights are kept in bf16 once, instead of being cast at every step; adapters and, for `method: full`, all
    weights stay in fp32.

    Raises:
        TrainingError: no module of the model bears a name of lora.target_modules.
    """
    model = load_base(record, precision if settings.method == "lora" else "fp32", settings.dropout)
    use_packed_attention(model)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    return _with_adapters(model, settings) if settings.method == "lora" else model


def _with_adapters(model: Any, settings: FinetuneSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = settings.lora.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
    if settings.gradient_checkpointing:
        model.enable_input_require_grads()  # or the frozen embedding ends the backward pass
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        leaves = sorted(
            {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if not list(module.children())}
        )
        raise TrainingError(
            f"lora.target_modules {targets} fit no module of this model; it has {', '.join(leaves)}",
            where="params.yaml",
            fix="Name some of these, or say all-linear",
        ) from error


def save_model(model: Any, tokenizer: Any, folder: Path, base_id: str) -> None:
    """Weights, configuration and tokenizer into `folder`, the same bytes for the same weights."""
    shutil.rmtree(folder, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a model card of peft's, with its version
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config["target_modules"], list):
            config["target_modules"].sort()  # a set: its order differs from run to run
        config["base_model_name_or_path"] = base_id
        write_json(path, config)
    else:
        model.set_attn_implementation("sdpa")
        model.config.use_cache = True
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
