"""The model that is trained, by each of the methods."""

from __future__ import annotations

from typing import Any

import torch

from tasks.base.precision import Precision
from tasks.errors import TrainingError
from tasks.finetune.config.preflight import require_judges
from tasks.finetune.model.initial_weights import ADAPTED, goes_on_with_adapter, load_start, take_adapter
from tasks.finetune.process_group import is_sharded
from tasks.finetune.settings import TrainingSettings
from tasks.finetune.step.gpu_kernels import use_fast_kernels
from tasks.finetune.step.lora_linear import use_low_rank
from tasks.finetune.step.packed_attention import use_packed_attention
from tasks.finetune.step.packing_probe import reads_ahead
from tasks.finetune.work import Work

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
        is_packed: it is given batches of `packed.collate`, if it can take them: its `takes_packed_rows` says so.

    Raises:
        TrainingError: no module of the model bears a name that the method asks for, it is to go on from what it cannot, or it is to
            write and is an encoder.
    """
    settings = work.settings
    keeps_base = settings.method not in ("full", "freeze")
    goes_on = goes_on_with_adapter(work)
    if settings.method == "prompt" and work.start is not None and not goes_on:
        what = "method: prompt can go on only from trained prompts of the same kind and number"
        raise TrainingError(what, where="finetune", fix="Set finetune.method: lora, or finetune.prompt as it was")
    model = load_start(
        work, work.precision if keeps_base else "fp32",
        dropout=settings.dropout, in_four_bits=settings.method == "qlora", labels=labels,
    )  # fmt: skip
    if labels is None and reads_ahead(model):
        what = "this model reads what follows a token (an encoder), so that it cannot be taught to write"
        raise TrainingError(
            what, where="base.model", fix="Name a model that writes, or set finetune.objective: classify"
        )
    model.takes_packed_rows = is_packed and use_packed_attention(model, work.precision)
    use_fast_kernels(model)
    model.config.use_cache = False
    if settings.gradient_checkpointing:
        how = {"use_reentrant": False, **settings.trainer.get("gradient_checkpointing_kwargs", {})}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=how)
        if keeps_base:
            model.enable_input_require_grads()  # or the frozen embedding ends the backward pass
    model = with_method(model, settings, work.precision, "CAUSAL_LM" if labels is None else "SEQ_CLS")
    if goes_on and work.start is not None:
        take_adapter(model, work.start)
    return model


def with_method(model: Any, settings: TrainingSettings, precision: Precision, task: str) -> Any:
    """The model with what the method trains, be it on PyTorch's `meta` device; the rest does not require gradients.

    Args:
        task: PEFT's name of what the model does: CAUSAL_LM or SEQ_CLS, which has a head of labels among its `new_modules`.
    """
    if settings.method in ADAPTED:
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
            if value.requires_grad:  # a new head is not frozen with the base
                value.data = value.data.float()
        if not is_sharded():  # by hooks that gather a layer's weights, and know of its own forward pass only
            use_low_rank(adapted)
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
    """Leaves the named parts to train; all else is frozen, in the narrower type where that can be."""
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
    # trained embeddings are in fp32, and norms must be as wide as what they are given
    is_wide = any(id(value) in kept for value in model.get_input_embeddings().parameters())
    for value in model.parameters():
        if id(value) not in kept:
            value.requires_grad_(False)
            is_narrow = precision == "bf16" and not (is_wide and value.ndim < 2)
            value.data = value.data.to(torch.bfloat16 if is_narrow else torch.float32)


def _last_layers(model: Any, count: int) -> list[torch.nn.Parameter]:
    lists = [module for module in model.modules() if isinstance(module, torch.nn.ModuleList)]
    layers = max(([*each] for each in lists), key=len, default=[])
    if count > len(layers):
        what = f"finetune.freeze.last_layers is {count}, and this model has {len(layers)} layers"
        raise TrainingError(what, where="params.yaml", fix="Set fewer, or finetune.method: full")
    return [value for layer in layers[len(layers) - count :] for value in layer.parameters()] if count else []
