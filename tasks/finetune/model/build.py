"""Builds the model to train, for each training method."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

import torch

from tasks.base.precision import Precision
from tasks.errors import TrainingError
from tasks.finetune.model.initial_weights import LORA_METHODS, continues_adapter, copy_adapter, load_start_weights
from tasks.finetune.process_group import is_sharded
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.step.gpu_kernels import use_fast_kernels
from tasks.finetune.step.lora_linear import use_fast_lora
from tasks.finetune.step.mfu import layers_of
from tasks.finetune.step.packed_attention import use_packed_attention
from tasks.finetune.step.packing_probe import attends_to_later_tokens
from tasks.finetune.work import Work

NEEDS_GPU = "needs a GPU and bitsandbytes (pip install bitsandbytes)"


def require_method(settings: TrainingSettings) -> None:
    """Checks, before any work, that this machine and the objective support the method.

    Raises:
        TrainingError: `qlora` without a GPU or bitsandbytes, or a setting that `classify` does not support.
    """
    import importlib.util

    if settings.spec.head == "labels":
        if settings.method == "prompt":
            what = f"finetune.method: prompt cannot be combined with objective: {settings.objective}, which also trains a head"
            raise TrainingError(what, where="params.yaml", fix="Set finetune.method: lora, freeze or full")
        if settings.loss_on == "all":
            what = f"finetune.loss_on: all cannot be combined with objective: {settings.objective}, which has no token loss"
            raise TrainingError(what, where="params.yaml", fix="Leave it out")

    if settings.method == "qlora" and not (torch.cuda.is_available() and importlib.util.find_spec("bitsandbytes")):
        raise TrainingError(f"finetune.method: qlora {NEEDS_GPU}", where="params.yaml", fix="Set finetune.method: lora")


def build_model(work: Work, labels: tuple[str, ...] | None = None, is_packed: bool = False) -> Any:
    """The model with its start weights, ready to train as the settings define.

    Frozen weights are stored in bf16 once, instead of being cast at every step; adapters and all other trained weights stay in
    fp32.

    Args:
        labels: labels of a classification head; None: a causal LM.
        is_packed: prepare it for packed batches (`packed_attention.collate`); its `supports_packed_rows` is False if it cannot.

    Raises:
        TrainingError: no module has a name that the method requires, the start weights do not fit, or the objective needs a causal
            LM and the model is an encoder.
    """
    settings = work.settings
    keeps_base = settings.method not in ("full", "freeze")
    continues = continues_adapter(work)
    if settings.method == "prompt" and work.start is not None and not continues:
        what = "method: prompt can only start from trained prompts of the same kind and number"
        raise TrainingError(what, where="finetune", fix="Set finetune.method: lora, or the earlier finetune.prompt")
    model = load_start_weights(
        work, work.precision if keeps_base else "fp32",
        dropout=settings.dropout, in_four_bits=settings.method == "qlora", labels=labels,
    )  # fmt: skip
    if labels is None and attends_to_later_tokens(model):
        what = "this model attends to later tokens (an encoder), so it cannot be trained to generate"
        raise TrainingError(what, where="base.model", fix="Name a causal LM, or set finetune.objective: classify")
    model.supports_packed_rows = is_packed and use_packed_attention(model, work.precision)
    use_fast_kernels(model)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        kwargs = {"use_reentrant": False, **settings.trainer.get("gradient_checkpointing_kwargs", {})}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=kwargs)
        if keeps_base:
            model.enable_input_require_grads()  # or the backward pass ends at the frozen embedding
    model = with_method(model, settings, work.precision, "CAUSAL_LM" if labels is None else "SEQ_CLS")
    if continues and work.start is not None:
        copy_adapter(model, work.start)
    return model


def with_method(model: Any, settings: TrainingSettings, precision: Precision, task: str) -> Any:
    """Adds adapters or freezes weights, as the method defines; also on PyTorch's `meta` device.

    Args:
        task: PEFT's task type: CAUSAL_LM or SEQ_CLS, whose classification head is among the model's `new_modules`.
    """
    if settings.method in LORA_METHODS:
        return _with_adapters(model, settings, task)
    if settings.method == "prompt":
        return _with_prompt(model, settings, task)
    if settings.method == "freeze":
        _freeze(model, settings, precision)
    return model


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
            if value.requires_grad:  # a new head is trained, too
                value.data = value.data.float()
        if not is_sharded():  # sharding gathers a layer's weights in hooks on its own forward pass
            use_fast_lora(adapted)
        return adapted
    except ValueError as error:
        names = [targets] if isinstance(targets, str) else targets
        leaves = _leaf_names(model)
        raise TrainingError(
            f"lora.target_modules {targets} match no module of this model; it has {', '.join(leaves)}",
            where="params.yaml",
            fix=f"Name some of these{_nearest(names, leaves)}, or set all-linear",
        ) from error


def unmatched_targets(model: Any, targets: str | tuple[str, ...]) -> list[str]:
    """The names in `lora.target_modules` that no module of the model has, each with the nearest one that exists."""
    if isinstance(targets, str):
        return []
    names = [name for name, _ in model.named_modules()]
    leaves = _leaf_names(model)
    unmatched = [t for t in targets if not any(name == t or name.endswith(f".{t}") for name in names)]
    return [f"`{target}`{_nearest([target], leaves)}" for target in unmatched]


def _leaf_names(model: Any) -> list[str]:
    return sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if not list(module.children())})


def _nearest(names: Sequence[str], known: list[str]) -> str:
    near = [match for name in names for match in difflib.get_close_matches(name, known, n=1)]
    return f" (nearest: {', '.join(near)})" if near else ""


def _with_prompt(model: Any, settings: TrainingSettings, task: str) -> Any:
    from peft import PrefixTuningConfig, PromptTuningConfig, get_peft_model

    kind = PrefixTuningConfig if settings.prompt.kind == "prefix" else PromptTuningConfig
    return get_peft_model(model, kind(task_type=task, num_virtual_tokens=settings.prompt.virtual_tokens))


def _freeze(model: Any, settings: TrainingSettings, precision: Precision) -> None:
    """Freezes all weights except the named parts; frozen weights are stored in bf16 where possible."""
    freeze = settings.freeze
    trained = _last_layers(model, freeze.last_layers)
    if freeze.embeddings:
        trained += list(model.get_input_embeddings().parameters())
    head = model.get_output_embeddings()
    if head is None:  # a new classification head is always trained
        body, new = f"{model.base_model_prefix}.", tuple(f"{name}." for name in model.new_modules)
        trained += [
            value for name, value in model.named_parameters() if not name.startswith(body) or name.startswith(new)
        ]
    elif freeze.head:
        trained += list(head.parameters())
    names = [name for name, _ in model.named_parameters()]
    for part in freeze.modules:
        if not any(part in name for name in names):
            shown = ", ".join(sorted({name.rsplit(".", 2)[-2] for name in names}))
            what = f"finetune.freeze.modules: no parameter's name contains {part!r}; the model has {shown}"
            raise TrainingError(what, where="params.yaml", fix="Name some of these")
    trained += [value for name, value in model.named_parameters() if any(part in name for part in freeze.modules)]
    if not trained:
        raise TrainingError("finetune.freeze freezes all parameters", where="params.yaml", fix="Set last_layers")
    trained_ids = {id(value) for value in trained}
    # trained embeddings are in fp32, and norms need the dtype of their input
    is_wide = any(id(value) in trained_ids for value in model.get_input_embeddings().parameters())
    for value in model.parameters():
        if id(value) not in trained_ids:
            value.requires_grad_(False)
            is_narrow = precision == "bf16" and not (is_wide and value.ndim < 2)
            value.data = value.data.to(torch.bfloat16 if is_narrow else torch.float32)


def _last_layers(model: Any, count: int) -> list[torch.nn.Parameter]:
    layers = layers_of(model)
    if count > len(layers):
        what = f"finetune.freeze.last_layers is {count}, and this model has {len(layers)} layers"
        raise TrainingError(what, where="params.yaml", fix="Set fewer, or finetune.method: full")
    return [value for layer in layers[len(layers) - count :] for value in layer.parameters()] if count else []
