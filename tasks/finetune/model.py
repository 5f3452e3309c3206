"""The model that is trained, by each of the methods, and its folder once trained."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.base.load import ADAPTER, LABELS, Precision, is_adapter, labels_of, load_base, load_trained, load_weights
from tasks.base.materialise import base_folder
from tasks.base.resolve import BaseRecord
from tasks.errors import TrainingError
from tasks.files import read_json, write_json
from tasks.finetune.fitness import require_judges
from tasks.finetune.kernels import use_fast_kernels
from tasks.finetune.objectives import Work
from tasks.finetune.packed import use_packed_attention
from tasks.finetune.settings import TrainingSettings

ADAPTED = ("lora", "dora", "qlora")
NEEDS_GPU = "needs a GPU and bitsandbytes (pip install bitsandbytes)"


def require_method(settings: TrainingSettings) -> None:
    """Tells before any work what this machine, or a head of labels, cannot do.

    Raises:
        TrainingError: `qlora` without a GPU, or without bitsandbytes; a setting that `classify` has no use for; or what is to
            judge answers is no reward model.
    """
    import importlib.util

    if settings.objective == "classify":
        if settings.method == "prompt":
            what = "finetune.method: prompt does not go with objective: classify, whose head is trained too"
            raise TrainingError(what, where="params.yaml", fix="Set finetune.method: lora, freeze or full")
        if settings.loss_on == "all":
            what = "finetune.loss_on: all does not go with objective: classify, which learns no tokens"
            raise TrainingError(what, where="params.yaml", fix="Leave it out")

    if settings.method == "qlora" and not (torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes")):
        raise TrainingError(f"finetune.method: qlora {NEEDS_GPU}", where="params.yaml", fix="Set finetune.method: lora")
    require_judges(settings)


def build_model(work: Work, labels: tuple[str, ...] | None = None, is_packed: bool = False) -> Any:
    """The model that the training starts from, ready to be trained as its settings say.

    Frozen weights are kept in bf16 once, instead of being cast at every step; adapters and whatever else is trained
    stay in fp32.

    Args:
        labels: give it a head that tells these apart.
        is_packed: it is given batches of `packed.collate`.

    Raises:
        TrainingError: no module of the model bears a name that the method asks for, or it is to go on from what it cannot.
    """
    settings = work.settings
    keeps_base = settings.method not in ("full", "freeze")
    goes_on = goes_on_with_adapter(work)
    if settings.method == "prompt" and work.start is not None and not goes_on:
        what = "method: prompt can go on only from trained prompts of the same kind and number"
        raise TrainingError(what, where="finetune", fix="Set finetune.method: lora, or finetune.prompt as it was")
    model = _load_start(
        work, work.precision if keeps_base else "fp32",
        dropout=settings.dropout, in_four_bits=settings.method == "qlora", labels=labels,
    )  # fmt: skip
    if is_packed:
        use_packed_attention(model, work.precision)
    use_fast_kernels(model)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if keeps_base:
            model.enable_input_require_grads()  # or the frozen embedding ends the backward pass
    if settings.method in ADAPTED:
        model = _with_adapters(model, settings, "CAUSAL_LM" if labels is None else "SEQ_CLS")
    elif settings.method == "prompt":
        model = _with_prompt(model, settings, "CAUSAL_LM" if labels is None else "SEQ_CLS")
    elif settings.method == "freeze":
        _freeze(model, settings, work.precision)
    if goes_on and work.start is not None:
        _take_adapter(model, work.start)
    return model


def goes_on_with_adapter(work: Work) -> bool:
    """Is it the adapter of the start that is trained on? One of another shape, or with another head, is merged into the base."""
    settings = work.settings
    if work.start is None or not is_adapter(work.start):
        return False
    labels = labels_of(work.start)
    if (settings.objective in ("classify", "reward")) != (labels is not None):
        return False
    known = read_json(work.start / ADAPTER)
    if settings.method == "prompt":
        kind = "PREFIX_TUNING" if settings.prompt.kind == "prefix" else "PROMPT_TUNING"
        return (known["peft_type"], known.get("num_virtual_tokens")) == (kind, settings.prompt.virtual_tokens)
    if settings.method not in ADAPTED or known["peft_type"] != "LORA":
        return False
    wanted = (settings.lora.rank, settings.lora.alpha, settings.method == "dora")
    if (known["r"], known["lora_alpha"], known["use_dora"]) != wanted:
        return False
    return set(known["target_modules"]) == _targets(base_folder(work.record), settings.lora.target_modules, labels)


@functools.cache
def _targets(folder: Path, named: str | tuple[str, ...], labels: tuple[str, ...] | None) -> frozenset[str]:
    """The modules that get an adapter, by name; `all-linear` as PEFT reads it of a model without memory."""
    if not isinstance(named, str):
        return frozenset(named)
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    kind, task = (
        (AutoModelForCausalLM, "CAUSAL_LM") if labels is None else (AutoModelForSequenceClassification, "SEQ_CLS")
    )
    with torch.device("meta"):
        model = kind.from_config(AutoConfig.from_pretrained(folder))
        found = get_peft_model(model, LoraConfig(task_type=task, target_modules=named)).peft_config["default"]
    return frozenset(found.target_modules)


def _load_start(work: Work, precision: Precision, **more: Any) -> Any:
    """The weights below whatever the method adds: the base's, or those of the start."""
    if work.start is None or goes_on_with_adapter(work):
        return load_base(work.record, precision, **more)
    return load_weights(_whole_start(work.start, work), precision, **more)


def _whole_start(start: Path, work: Work) -> Path:
    """The folder of the start's weights, its adapter merged into the base."""
    if not is_adapter(start):
        return start
    merged = work.checkpoints / "start"
    if not (merged / "config.json").is_file():
        if read_json(start / ADAPTER)["peft_type"] != "LORA":
            what = "trained prompts cannot be merged into the weights"
            fix = "Go on with the same finetune.prompt, or train with method: lora before"
            raise TrainingError(what, where="finetune", fix=fix)
        model = load_trained(start, work.record).merge_and_unload()
        beside = merged.with_name(f"start.{os.getpid()}")  # several processes may do so at once
        model.save_pretrained(beside)
        with contextlib.suppress(OSError):
            beside.rename(merged)
        shutil.rmtree(beside, ignore_errors=True)
    return merged


def _take_adapter(model: Any, folder: Path) -> None:
    """Puts the trained adapter in `folder` into the new one of the same shape."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    strange = set(loaded.unexpected_keys) - {"prompt_embeddings"}  # those have a way of their own
    assert not strange, f"an adapter of another shape: {sorted(strange)[:3]}"


def _with_adapters(model: Any, settings: TrainingSettings, task: str) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = settings.lora.target_modules
    config = LoraConfig(
        task_type=task,
        r=settings.lora.rank,
        lora_alpha=settings.lora.alpha,
        lora_dropout=settings.lora.dropout,
        use_dora=settings.method == "dora",
        target_modules=targets if isinstance(targets, str) else list(targets),
        modules_to_save=list(model.new_modules) if task == "SEQ_CLS" else None,
    )
    try:
        adapted = get_peft_model(model, config)
        for value in adapted.parameters():
            if value.requires_grad:  # a new head is not frozen with the base
                value.data = value.data.float()
        return adapted
    except ValueError as error:
        leaves = sorted(
            {name.rsplit(".", 1)[-1] for name, module in model.named_modules() if not list(module.children())}
        )
        raise TrainingError(
            f"lora.target_modules {targets} fit no module of this model; it has {', '.join(leaves)}",
            where="params.yaml",
            fix="Name some of these, or say all-linear",
        ) from error


def _with_prompt(model: Any, settings: TrainingSettings, task: str) -> Any:
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    kind = PrefixTuningConfig if settings.prompt.kind == "prefix" else PromptTuningConfig
    return get_peft_model(model, kind(task_type=task, num_virtual_tokens=settings.prompt.virtual_tokens))


def _freeze(model: Any, settings: TrainingSettings, precision: Precision) -> None:
    """Leaves the named parts to train; all else is frozen, in the narrower type."""
    chosen = settings.freeze
    trained = _last_layers(model, chosen.last_layers)
    if chosen.embeddings:
        trained += list(model.get_input_embeddings().parameters())
    head = model.get_output_embeddings()
    if head is None:  # one of labels, which is new: it is always trained
        body, new = f"{model.base_model_prefix}.", tuple(f"{name}." for name in model.new_modules)
        trained += [
            value for name, value in model.named_parameters() if not name.startswith(body) or name.startswith(new)
        ]
    elif chosen.head:
        trained += list(head.parameters())
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


def save_model(model: Any, tokenizer: Any, folder: Path, work: Work) -> None:
    """Weights, configuration and tokenizer into `folder`, the same bytes for the same weights.

    Adapters are saved alone where they are the base's; on other weights, they are merged into them.
    """
    shutil.rmtree(folder, ignore_errors=True)
    labels = labels_of_model(model)
    if not hasattr(model, "peft_config"):
        _save_whole(_whole(model, work), folder)
    elif work.start is None or goes_on_with_adapter(work):
        _save_adapter(model, folder, work.record)
    else:
        _save_whole(_merged(model, work), folder)
    if labels is not None:
        write_json(folder / LABELS, list(labels))
    tokenizer.save_pretrained(folder)


def _save_adapter(model: Any, folder: Path, record: BaseRecord) -> None:
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    (folder / "README.md").unlink(missing_ok=True)  # a model card of peft's, with its version
    path = folder / ADAPTER
    config = json.loads(path.read_text(encoding="utf-8"))
    for name in ("target_modules", "modules_to_save"):  # sets: their order differs from run to run
        if isinstance(config.get(name), list):
            config[name].sort()
    config["base_model_name_or_path"] = record.id
    write_json(path, config)


def _save_whole(model: Any, folder: Path) -> None:
    model.set_attn_implementation("sdpa")
    model.config.use_cache = True
    model.save_pretrained(folder)


def _whole(model: Any, work: Work) -> Any:
    """All weights in fp32; frozen ones as the start has them, not as they were narrowed for training."""
    trained = {name: value.data for name, value in model.named_parameters() if value.requires_grad}
    if len(trained) == len(list(model.named_parameters())):
        return model
    whole = _load_start(work, "fp32", labels=labels_of_model(model)).cpu()
    whole.load_state_dict(trained, strict=False)
    return whole


def _merged(model: Any, work: Work) -> Any:
    """The start's weights in fp32 with the trained adapter in them, not as they were narrowed for training."""
    from peft import PeftModel

    folder = work.checkpoints / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder, save_embedding_layers=False, selected_adapters=["default"])
    start = _load_start(work, "fp32", labels=labels_of_model(model))
    return PeftModel.from_pretrained(start, str(folder)).merge_and_unload()


def labels_of_model(model: Any) -> tuple[str, ...] | None:
    """The labels of a model's head; None for one that writes."""
    inner = model.get_base_model() if hasattr(model, "peft_config") else model
    has_labels = inner.get_output_embeddings() is None
    return tuple(inner.config.id2label.values()) if has_labels else None
