"""The model that is trained, by each of the methods, and its folder once trained."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.base.load import Precision, load_base
from tasks.base.resolve import BaseRecord
from tasks.errors import TrainingError
from tasks.files import write_json
from tasks.finetune.packed import use_packed_attention
from tasks.finetune.settings import FinetuneSettings

ADAPTED = ("lora", "dora", "qlora")
NEEDS_GPU = "needs a GPU and bitsandbytes (pip install bitsandbytes)"


def require_method(settings: FinetuneSettings) -> None:
    """Tells before any work what this machine cannot do.

    Raises:
        TrainingError: `qlora` without a GPU, or without bitsandbytes.
    """
    import importlib.util

    if settings.method == "qlora" and not (torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes")):
        raise TrainingError(f"finetune.method: qlora {NEEDS_GPU}", where="params.yaml", fix="Set finetune.method: lora")


def build_model(record: BaseRecord, settings: FinetuneSettings, precision: Precision) -> Any:
    """The base, ready to be trained as `settings` say.

    Frozen weights are kept in bf16 once, instead of being cast at every step; adapters and whatever else is trained
    stay in fp32.

    Raises:
        TrainingError: no module of the model bears a name that the method asks for.
    """
    keeps_base = settings.method not in ("full", "freeze")
    in_four_bits = settings.method == "qlora"
    model = load_base(record, precision if keeps_base else "fp32", settings.dropout, in_four_bits)
    if settings.method != "prompt":
        use_packed_attention(model)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if keeps_base:
            model.enable_input_require_grads()  # or the frozen embedding ends the backward pass
    if settings.method in ADAPTED:
        return _with_adapters(model, settings)
    if settings.method == "prompt":
        return _with_prompt(model, settings)
    if settings.method == "freeze":
        _freeze(model, settings, precision)
    return model


def _with_adapters(model: Any, settings: FinetuneSettings) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = settings.lora.target_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        use_dora=settings.method == "dora",
        target_modules=targets if isinstance(targets, str) else list(targets),
    )
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


def _with_prompt(model: Any, settings: FinetuneSettings) -> Any:
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    kind = PrefixTuningConfig if settings.prompt.kind == "prefix" else PromptTuningConfig
    return get_peft_model(model, kind(task_type="CAUSAL_LM", num_virtual_tokens=settings.prompt.virtual_tokens))


def _freeze(model: Any, settings: FinetuneSettings, precision: Precision) -> None:
    """Leaves the named parts to train; all else is frozen, in the narrower type."""
    chosen = settings.freeze
    trained = _last_layers(model, chosen.last_layers)
    if chosen.embeddings:
        trained += list(model.get_input_embeddings().parameters())
    if chosen.head:
        trained += list(model.get_output_embeddings().parameters())
    names = [name for name, _ in model.named_parameters()]
    for part in chosen.modules:
        if not any(part in name for name in names):
            shown = ", ".join(sorted({name.rsplit(".", 2)[-2] for name in names}))
            what = f"finetune.freeze.modules: no parameter's name contains {part!r}; there are {shown}"
            raise TrainingError(what, where="params.yaml", fix="Name some of these")
    trained += [value for name, value in model.named_parameters() if any(part in name for part in chosen.modules)]
    if not trained:
        raise TrainingError("finetune.freeze leaves nothing to train", where="params.yaml", fix="Set last_layers")
    kept = {id(value) for value in trained}
    for value in model.parameters():
        if id(value) not in kept:
            value.requires_grad_(False)
            value.data = value.data.to(torch.bfloat16 if precision == "bf16" else torch.float32)


def _last_layers(model: Any, count: int) -> list[torch.nn.Parameter]:
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = max(([*each] for each in lists), key=len, default=[])
    return [value for layer in layers[len(layers) - count :] for value in layer.parameters()] if count else []


def save_model(model: Any, tokenizer: Any, folder: Path, record: BaseRecord) -> None:
    """Weights, configuration and tokenizer into `folder`, the same bytes for the same weights."""
    shutil.rmtree(folder, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.save_pretrained(folder, save_embedding_layers=False)
        (folder / "README.md").unlink(missing_ok=True)  # a model card of peft's, with its version
        path = folder / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(config.get("target_modules"), list):
            config["target_modules"].sort()  # a set: its order differs from run to run
        config["base_model_name_or_path"] = record.id
        write_json(path, config)
    else:
        model = _whole(model, record)
        model.set_attn_implementation("sdpa")
        model.config.use_cache = True
        model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _whole(model: Any, record: BaseRecord) -> Any:
    """All weights in fp32; frozen ones as the base has them, not as they were narrowed for training."""
    trained = {name: value.data for name, value in model.named_parameters() if value.requires_grad}
    if len(trained) == len(list(model.named_parameters())):
        return model
    whole = load_base(record).cpu()
    whole.load_state_dict(trained, strict=False)
    return whole
