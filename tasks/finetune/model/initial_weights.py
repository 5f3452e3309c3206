"""The start weights of a training: the base, or trained weights, whose adapter is continued or merged."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from tasks.base.convert import base_folder
from tasks.base.foreign import trusts
from tasks.base.heads import REWARD
from tasks.base.load import ADAPTER, is_adapter, labels_of, load_base, load_trained, load_weights
from tasks.base.precision import Precision
from tasks.errors import TrainingError
from tasks.finetune.work import Work
from tasks.runtime.files import read_json

LORA_METHODS = ("lora", "dora", "qlora")


def continues_adapter(work: Work) -> bool:
    """Does training continue the start's adapter? An adapter of another shape or head is merged into the base instead."""
    settings = work.settings
    if work.start is None or not is_adapter(work.start):
        return False
    labels = labels_of(work.start)
    if (settings.spec.head != "none") != (labels is not None):
        return False
    config = read_json(work.start / ADAPTER)
    if settings.method == "prompt":
        kind = "PREFIX_TUNING" if settings.prompt.kind == "prefix" else "PROMPT_TUNING"
        return (config["peft_type"], config.get("num_virtual_tokens")) == (kind, settings.prompt.virtual_tokens)
    if settings.method not in LORA_METHODS or config["peft_type"] != "LORA":
        return False
    expected = (settings.lora.rank, settings.lora.alpha, settings.method == "dora")
    if (config["r"], config["lora_alpha"], config["use_dora"]) != expected:
        return False
    return set(config["target_modules"]) == _target_modules(
        base_folder(work.record), settings.lora.target_modules, labels
    )


@functools.cache
def _target_modules(folder: Path, modules: str | tuple[str, ...], labels: tuple[str, ...] | None) -> frozenset[str]:
    """Names of the modules with an adapter; PEFT resolves `all-linear` on a model on the `meta` device."""
    if not isinstance(modules, str):
        return frozenset(modules)
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

    model_class, task = (
        (AutoModelForCausalLM, "CAUSAL_LM") if labels is None else (AutoModelForSequenceClassification, "SEQ_CLS")
    )
    with torch.device("meta"):
        model = model_class.from_config(AutoConfig.from_pretrained(folder, trust_remote_code=trusts(folder)))
        lora = get_peft_model(model, LoraConfig(task_type=task, target_modules=modules)).peft_config["default"]
    return frozenset(lora.target_modules)


def load_start_weights(work: Work, precision: Precision, **more: Any) -> Any:
    """The weights that the method trains or adds adapters to: the base's, or those of the start.

    Raises:
        TrainingError: the start has a head that the objective cannot use.
    """
    _require_compatible_head(work)
    if work.start is None or continues_adapter(work):
        return load_base(work.record, precision, **more)
    return load_weights(_merged_start(work.start, work), precision, **more)


def _require_compatible_head(work: Work) -> None:
    labels, head = labels_of(work.start) if work.start is not None else None, work.settings.spec.head
    if labels is not None and (head == "none" or (head == "reward") != (labels == REWARD)):
        what = (
            f"a model that classifies {', '.join(labels)} cannot be the start of objective: {work.settings.objective}"
        )
        raise TrainingError(what, where="finetune", fix="Train the base: finetune.continue_from: base")


def _merged_start(start: Path, work: Work) -> Path:
    """The folder of the start's full weights; an adapter is merged into the base first."""
    if not is_adapter(start):
        return start
    merged = work.checkpoints / "start"
    if not (merged / "config.json").is_file():
        if read_json(start / ADAPTER)["peft_type"] != "LORA":
            what = "trained prompts cannot be merged into the weights"
            fix = "Keep finetune.prompt as it was, or train with method: lora first"
            raise TrainingError(what, where="finetune", fix=fix)
        # a resumed run does not merge again, so merging must not advance the random state
        with torch.random.fork_rng():
            model = load_trained(start, work.record).merge_and_unload()
        temporary = merged.with_name(f"start.{os.getpid()}")  # several processes may merge at once
        model.save_pretrained(temporary)
        with contextlib.suppress(OSError):
            temporary.rename(merged)
        shutil.rmtree(temporary, ignore_errors=True)
    return merged


def copy_adapter(model: Any, folder: Path) -> None:
    """Loads the adapter weights in `folder` into a new adapter of the same shape."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    loaded = set_peft_model_state_dict(model, load_file(folder / "adapter_model.safetensors"))
    unexpected = set(loaded.unexpected_keys) - {"prompt_embeddings"}  # PEFT loads these separately
    assert not unexpected, f"an adapter of another shape: {sorted(unexpected)[:3]}"
